"""A dataset as an RO-Crate 1.1 (profile Process Run Crate 0.5): its entities as JSON-LD (hides the vocabulary). Nothing is read or written here."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from icp.engine.provenance import Story
from icp.model.definition import Steering

__all__ = ["CONTEXT", "METADATA", "Crate"]

METADATA = "ro-crate-metadata.json"
CONTEXT = ["https://w3id.org/ro/crate/1.1/context", "https://w3id.org/ro/terms/workflow-run/context"]
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"


def moment(seconds: float) -> str:
    """ISO 8601, UTC."""
    return dt.datetime.fromtimestamp(seconds, dt.timezone.utc).isoformat(timespec="seconds")


def _ref(name: str) -> dict[str, str]:
    return {"@id": name}


@dataclass
class Crate:
    """Gathers entities; ``uuid`` is the dataset's. Files that are not in the crate are named by arcp (draft-soilandreyes-arcp) URIs."""

    uuid: str
    name: str
    seed: int
    jobs: int
    who: str
    now: float
    license: str
    submitted: float
    steering_file: str
    steering: Steering
    entities: dict[str, dict[str, Any]] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.person = "#" + quote(self.who)
        self._add({"@id": self.person, "@type": "Person", "name": self.who})
        for name, one in self.steering.software.items():
            about = {"cvmfs": " ".join(one.cvmfs), "shell": one.shell, "setup": one.setup, "container": one.container,
                     "tarballs": " ".join(f"{tarball.url} (sha256 {tarball.sha256})" for tarball in one.tarballs)}  # fmt: skip
            text = ", ".join(f"{key} {value}" for key, value in about.items() if value)
            self._add({"@id": f"#software/{quote(name)}", "@type": "SoftwareApplication", "name": name, "description": text or name})
        for task in self.steering.all_tasks:
            modules = [module for tray in task.trays for module in tray.modules]
            said = [one.command if isinstance(one.command, str) else " ".join(one.command) for one in modules if not one.python]
            said += [f"module {one.python}" + (f", class {one.cls}" if one.cls else "") for one in modules if one.python]
            used = dict.fromkeys(tray.software or task.software for tray in task.trays)
            entity: dict[str, Any] = {
                "@id": self._task(task.name), "@type": "SoftwareApplication", "name": task.name,
                "description": "; ".join(one.strip() for one in said), "isPartOf": _ref(self.steering_file),
            }  # fmt: skip
            requirements = [_ref(f"#software/{quote(one)}") for one in used if one]
            if requirements:
                entity["softwareRequirements"] = requirements
            self._add(entity)

    def _add(self, entity: dict[str, Any]) -> str:
        name = str(entity["@id"])
        self.entities.setdefault(name, entity)
        return name

    @staticmethod
    def _task(name: str) -> str:
        return f"#task/{quote(name)}"

    def file(self, path: str, about: str, kind: str, size: int, sha256: str, types: tuple[str, ...] = ("File",)) -> None:
        """A file that is in the crate."""
        name = quote(path)
        self.parts.append(self._add({
            "@id": name, "@type": list(types) if len(types) > 1 else types[0], "name": path.rpartition("/")[2], "description": about, "encodingFormat": kind,
            "contentSize": str(size), "sha256": sha256,
        }))  # fmt: skip

    def output(self, attempt: str, name: str, size: int, sha256: str, inside: str | None) -> str:
        """A file that an attempt made, in the crate (as ``inside``) or by its hash alone; its name as an entity."""
        known = quote(inside) if inside else f"arcp://uuid,{self.uuid}/{attempt}/{quote(name)}"
        if known not in self.entities:
            self.parts.append(self._add({
                "@id": known, "@type": "File", "name": name, "contentSize": str(size), "sha256": sha256, "encodingFormat": "application/octet-stream",
                "identifier": f"urn:sha256:{sha256}",
            }))  # fmt: skip
        return known

    def remote(self, url: str, name: str, size: int, sha256: str) -> str:
        """A file that an attempt fetched."""
        known = url if url.partition(":")[0] in ("http", "https") else f"urn:sha256:{sha256}"
        if known not in self.entities:
            self.parts.append(self._add({"@id": known, "@type": "File", "name": name, "contentSize": str(size), "sha256": sha256, "alternateName": url,
                                         "encodingFormat": "application/octet-stream"}))  # fmt: skip
        return known

    def action(self, story: Story, inputs: list[str], results: list[str]) -> None:
        """An accepted attempt."""
        made = story.made
        name = f"#attempt/{made.attempt}"
        seed = self._add({"@id": f"#seed/{made.attempt}", "@type": "PropertyValue", "name": "seed", "value": str(story.seed)})
        job = f"job {made.job}" if made.job >= 0 else f"group {-1 - made.job} of jobs"
        entity: dict[str, Any] = {
            "@id": name, "@type": "CreateAction", "name": f"{made.task}, {job}", "instrument": _ref(self._task(made.task)), "agent": _ref(self.person),
            "object": [_ref(one) for one in dict.fromkeys(inputs)] + [_ref(seed)], "result": [_ref(one) for one in results],
            "actionStatus": "http://schema.org/CompletedActionStatus", "identifier": made.attempt,
            "description": f"try {made.tries} at site {made.site}" + (f" on {made.host}" if made.host else "") + f", revision {story.revision}",
        }  # fmt: skip
        if made.begun is not None:
            entity["startTime"] = moment(made.begun)
            entity["endTime"] = moment(made.begun + (made.wall or 0))
        self.actions.append(self._add(entity))

    def text(self, description: str) -> str:
        """The whole document."""
        root: dict[str, Any] = {
            "@id": "./", "@type": "Dataset", "name": self.name, "description": description, "datePublished": moment(self.now),
            "dateCreated": moment(self.submitted), "license": self.license, "identifier": f"urn:uuid:{self.uuid}", "creator": _ref(self.person),
            "conformsTo": _ref(PROFILE), "hasPart": [_ref(one) for one in self.parts], "mentions": [_ref(one) for one in self.actions],
        }  # fmt: skip
        if self.license.startswith(("http://", "https://")):
            root["license"] = _ref(self.license)
            self._add({"@id": self.license, "@type": "CreativeWork", "name": self.license.rstrip("/").rpartition("/")[2] or self.license,
                       "description": "the license of this dataset"})  # fmt: skip
        head = {"@id": METADATA, "@type": "CreativeWork", "conformsTo": _ref("https://w3id.org/ro/crate/1.1"), "about": _ref("./")}
        profile = {"@id": PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}
        return json.dumps({"@context": CONTEXT, "@graph": [head, root, profile, *self.entities.values()]}, indent=1) + "\n"
