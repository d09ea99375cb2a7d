"""An XML steering file of IceProd 1 in the words of a later configuration (hides XML, and the ways in which the same was written)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET
from xml.etree.ElementTree import Element

from icp.errors import BadInput

__all__ = ["read"]

_SCALARS = {"int", "integer", "long", "float", "double", "bool", "boolean", "string", "omkey", "pair"}
_VECTORS = {"intv", "floatv", "doublev", "boolv", "stringv", "omkeyv", "vector", "list", "dict", "map"}
_WRAPPERS = {"pre", "post", "iceprod", "icetray", "modules", "trays", "parameters", "externs", "metaprojects", "projects", "tasks", "taskdefs", "batchopts"}
_INERT = {"{http://www.w3.org/2001/XMLSchema-instance}noNamespaceSchemaLocation", "iceprod_version", "version"}


def read(text: str, path: str) -> dict[str, Any]:
    """The configuration; BadInput for what is no XML, or none of IceProd."""
    try:
        # expat itself bounds how far entities may grow; external ones are not fetched
        root = ET.fromstring(text.lstrip("\ufeff"))  # noqa: S314
    except ET.ParseError as error:
        line, column = error.position
        hint = "IceProd's steering files begin with <configuration>."
        raise BadInput(f"{path}:{line}:{column + 1} is no XML: {str(error).partition(':')[0]}.", hint) from None
    except ValueError as error:
        raise BadInput(f"{path} is no XML: {error}.") from None
    if _tag(root) != "configuration":
        hint = "docs/iceprod.md has what is understood."
        raise BadInput(f"{path} is no steering file of IceProd: its first element is <{root.tag}>, expected <configuration>.", hint)
    return _Reader().configuration(root)


def _tag(element: Element) -> str:
    return element.tag.rpartition("}")[2].lower()


def _said(element: Element, *names: str) -> str:
    """An attribute, or the text of a child, under the first of these names that is there."""
    for name in names:
        for given, text in element.attrib.items():
            if given.lower() == name:
                return text.strip()
        for child in element:
            if _tag(child) == name and not len(child):
                return (child.text or child.get("value") or child.get("name") or "").strip()
    return ""


def _inside(element: Element) -> Iterator[Element]:
    """Children; elements that only hold others are gone through."""
    for child in element:
        if _tag(child) in _WRAPPERS:
            yield from _inside(child)
        else:
            yield child


class _Reader:
    def __init__(self) -> None:
        self.notes: list[tuple[str, str]] = []
        self.software: dict[str, str] = {}

    def configuration(self, root: Element) -> dict[str, Any]:
        config: dict[str, Any] = {"options": {}, "steering": {"parameters": {}, "system": {}, "batchsys": {}, "resources": [], "data": []}, "tasks": []}
        trays: list[dict[str, Any]] = []
        tasks: list[Element] = []
        externs: list[dict[str, Any]] = []
        shared: list[str] = []
        for name, value in root.attrib.items():
            if name not in _INERT and value not in ("", "0"):
                self._lost("configuration", f"{name} = {value!r}")
        for element in _inside(root):
            tag = _tag(element)
            if tag == "steering":
                externs += self._steering(element, config)
            elif tag == "options":
                config["options"].update(_pairs(element))
            elif tag == "tray":
                trays.append(self._tray(element, f"tray[{len(trays)}]"))
            elif tag in ("task", "taskdef"):
                if len(element) or element.attrib:
                    tasks.append(element)
            elif tag in ("metaproject", "project"):
                shared += self._metaproject(element)
            elif tag == "extern":
                externs.append(self._extern(element))
            elif tag == "description":
                config["description"] = (element.text or "").strip()
            elif tag in ("category", "categories"):
                config.setdefault("categories", []).append((element.text or "").strip())
            elif tag in ("dif_plus", "difplus"):
                config["difplus"] = _nested(element)
            else:
                self._lost("configuration", _shown(element))
        if externs:
            trays.insert(0, {"name": "externs", "modules": externs})
        for tray in trays:
            if shared and not tray.get("software"):
                tray["software"] = shared[0]
        config["tasks"] = self._tasks(tasks, trays, bool(externs))
        config.update(software=self.software, notes=self.notes)
        return config

    def _lost(self, place: str, about: str) -> None:
        self.notes.append((place, about))

    def _steering(self, steering: Element, config: dict[str, Any]) -> list[dict[str, Any]]:
        found, externs = config["steering"], []
        parameters = found["parameters"]
        parameters.update(_pairs(steering))
        for element in _inside(steering):
            tag = _tag(element)
            if _is_parameter(element):
                continue
            if tag == "system":
                found["system"].update(_pairs(element))
            elif tag == "batchsys":
                found["batchsys"].setdefault(_said(element, "name") or "*", {}).update(_pairs(element))
            elif tag in ("batchopt", "batch_opt"):
                value = _said(element, "value") or (element.text or "").strip()
                found["batchsys"].setdefault(_said(element, "type") or "*", {})[_said(element, "name")] = value
            elif tag == "resource":
                found["resources"].append(dict(element.attrib))
            elif tag == "data":
                found["data"].append(dict(element.attrib))
            elif tag in ("dependency", "depend"):
                self._dependency(_said(element, "value", "name", "url") or (element.text or "").strip(), found)
            elif tag == "extern":
                externs.append(self._extern(element))
            elif tag == "description":
                config["description"] = (element.text or "").strip()
            else:
                self._lost("steering", _shown(element))
        return externs

    def _dependency(self, name: str, steering: dict[str, Any]) -> None:
        """A file that is shipped with the job, below ``lib_url``."""
        if "://" not in name and not name.startswith("$"):
            if "lib_url" not in steering["parameters"]:
                self._lost("steering", f"dependency {name}: there is no lib_url that says where it is")
                return
            name = f"$steering(lib_url)/{name.lstrip('/')}"
        steering["resources"].append({"remote": name})

    def _extern(self, element: Element) -> dict[str, Any]:
        words = {"exec": ("executable", "exec", "command"), "args": ("arguments", "args"), "in": ("infile", "input", "in", "stdin"),
                 "out": ("outfile", "output", "out", "stdout"), "err": ("errfile", "error", "err", "stderr")}  # fmt: skip
        extern = {word: _said(element, *names) for word, names in words.items()}
        name = " ".join(part for part in (_said(element, "name"), _said(element, "version"), _said(element, "description")) if part)
        known = {one for names in words.values() for one in names} | {"name", "version", "description"}
        for child in element:
            if _tag(child) not in known:
                self._lost("extern", _shown(child))
        return {"name": name, "extern": extern}

    def _metaproject(self, element: Element) -> list[str]:
        """The name of a software environment."""
        name, version = _said(element, "name"), _said(element, "version")
        if not name:
            return []
        safe = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{name}-{version}" if version else name).lstrip(".-")
        inside = [f"{_said(one, 'name')} {_said(one, 'version')}".strip() for one in element.iter() if one is not element and _tag(one) == "project"]
        self.software[safe] = f"{name} {version}".strip() + (f" ({', '.join(inside)})" if inside else "")
        return [safe]

    def _tray(self, element: Element, place: str) -> dict[str, Any]:
        tray: dict[str, Any] = {"name": _said(element, "name"), "modules": [], "data": [], "resources": [], "parameters": {}}
        tray["parameters"].update(_pairs(element))
        if iterations := _said(element, "iter", "iterations"):
            tray["iterations"] = int(iterations) if iterations.isdigit() else iterations
        for attribute in element.attrib:
            if attribute.lower() not in ("name", "iter", "iterations", "id"):
                self._lost(place, f"{attribute} = {element.attrib[attribute]!r}")
        for child in _inside(element):
            tag = _tag(child)
            if tag == "module":
                tray["modules"].append(self._module(child, f"{place}.module[{len(tray['modules'])}]"))
            elif tag == "extern":
                tray["modules"].append(self._extern(child))
            elif tag in ("metaproject", "project"):
                names = self._metaproject(child)
                if "software" in tray and names:
                    self._lost(place, f"metaproject {self.software[names[0]]}: a tray has one software environment here")
                elif names:
                    tray["software"] = names[0]
            elif tag in ("data", "resource"):
                tray["data" if tag == "data" else "resources"].append(dict(child.attrib))
            elif tag == "inputfile":
                tray["resources"].append({"remote": _said(child, "value", "name", "url") or (child.text or "").strip()})
            elif tag not in ("name", "iterations", "iter") and not _is_parameter(child):
                self._lost(place, _shown(child))
        return tray

    def _module(self, element: Element, place: str) -> dict[str, Any]:
        module: dict[str, Any] = {"name": _said(element, "name"), "data": [], "resources": []}
        running, src = _said(element, "class"), _said(element, "src")
        given = _pairs(element, typed=bool(running))
        if running:
            module.update(running_class=running, params=given)
            if running.rpartition(".")[2].lower() == "i3" or {"class", "url"} <= {name.lower() for name in given}:
                # the predefined module that stands for an external one
                low = {name.lower(): name for name in given}
                module["running_class"] = str(given.pop(low["class"], running)) if "class" in low else running
                module["url"] = str(given.pop(low["url"])) if "url" in low else ""
            elif src:
                module["url"] = src
            if args := _said(element, "args"):
                self._lost(place, f"args = {args!r}: a class has parameters")
        else:
            module.update(src=src, args=_said(element, "args"), parameters=given)
        for child in _inside(element):
            tag = _tag(child)
            if tag in ("data", "resource"):
                module["data" if tag == "data" else "resources"].append(dict(child.attrib))
            elif tag not in ("name", "class", "src", "args") and not _is_parameter(child):
                self._lost(place, _shown(child))
        for attribute in element.attrib:
            if attribute.lower() not in ("name", "class", "src", "args", "id", "projects"):
                self._lost(place, f"{attribute} = {element.attrib[attribute]!r}")
        return module

    def _tasks(self, tasks: list[Element], trays: list[dict[str, Any]], shifted: bool) -> list[dict[str, Any]]:
        if not tasks:
            return [{"name": "main", "trays": trays}] if trays else []
        found: list[dict[str, Any]] = []
        used: set[int] = set()
        ids: dict[str, str] = {}
        children: list[tuple[str, str]] = []
        for number, element in enumerate(tasks):
            task, below = self._task(element, f"task[{number}]", trays, used, shifted)
            ids[_said(element, "id") or str(number)] = task["name"] = task["name"] or f"task{number}"
            children += [(task["name"], child) for child in below]
            found.append(task)
        names = {task["name"]: task for task in found}
        for task in found:
            task["depends"] = [one if one in names else ids.get(one, one) for one in task["depends"]]
        for parent, child in children:
            child = child if child in names else ids.get(child, child)
            if child in names:
                names[child]["depends"].append(parent)
            else:
                self._lost(f"task {parent}", f"a child {child!r} that is no task")
        if shifted and 0 not in used:
            found[0]["trays"].insert(0, trays[0])
            used.add(0)
        for number, tray in enumerate(trays):
            if number not in used:
                found[0]["trays"].append(tray)
                self._lost(f"tray[{number - shifted}]", f"tray {tray['name'] or number - shifted} belongs to no task; it runs at the end of {found[0]['name']}")
        return found

    def _task(self, element: Element, place: str, trays: list[dict[str, Any]], used: set[int], shifted: bool) -> tuple[dict[str, Any], list[str]]:
        task: dict[str, Any] = {"name": _said(element, "name"), "depends": [], "trays": [], "data": [], "resources": [], "batchsys": {}}
        task["parameters"] = _pairs(element)
        children: list[str] = []
        for given in ("depends", "parents", "parent"):
            task["depends"] += [one.strip() for one in element.get(given, "").split(",") if one.strip()]
        for child in _inside(element):
            tag = _tag(child)
            name = _said(child, "name", "tag", "task", "id", "value") or (child.text or "").strip()
            if tag in ("parent", "taskparent", "depend", "depends"):
                task["depends"].append(name)
            elif tag in ("child", "taskchild"):
                children.append(name)
            elif tag in ("requirements", "requirement", "taskreqs", "reqs"):
                task["conditions"] = " && ".join(filter(None, [task.get("conditions"), (child.text or "").strip() or name]))
            elif tag in ("tray", "tasktray") and not any(_tag(one) == "module" for one in child.iter()):
                self._refer(child, task, trays, used, shifted, place)
            elif tag == "tray":
                task["trays"].append(self._tray(child, f"{place}.tray[{len(task['trays'])}]"))
            elif tag == "batchsys":
                task["batchsys"].setdefault(_said(child, "name") or "*", {}).update(_pairs(child))
            elif tag == "batchopt":
                task["batchsys"].setdefault(_said(child, "type") or "*", {})[_said(child, "name")] = _said(child, "value")
            elif tag in ("data", "resource"):
                task["data" if tag == "data" else "resources"].append(dict(child.attrib))
            elif tag not in ("name", "id") and not _is_parameter(child):
                self._lost(place, _shown(child))
        return task, children

    def _refer(self, child: Element, task: dict[str, Any], trays: list[dict[str, Any]], used: set[int], shifted: bool, place: str) -> None:
        """A task names the trays that it runs, by name or by number."""
        wanted = _said(child, "name", "tray", "index", "id") or (child.text or "").strip()
        for number, tray in enumerate(trays):
            if number >= shifted and wanted and (tray["name"] == wanted or str(number - shifted) == wanted):
                given = _said(child, "iter", "iterations")
                task["trays"].append({**tray, **({"iterations": int(given)} if given.isdigit() and int(given) > 0 else {})})
                used.add(number)
                return
        self._lost(place, f"runs the tray {wanted!r}, and there is none")


def _is_parameter(element: Element) -> bool:
    return _tag(element) in _SCALARS | _VECTORS | {"parameter"}


def _pairs(element: Element, typed: bool = False) -> dict[str, Any]:
    """Its parameters; ``typed``: as a class gets them, otherwise as texts that stand in expressions."""
    found = {}
    for one in _inside(element):
        if _is_parameter(one) and (name := _said(one, "name") or one.get("id", "")):
            found[name] = _value(one, typed)
    return found


def _value(element: Element, typed: bool) -> Any:
    kind = (element.get("type") or _tag(element)).lower()
    members = [one for one in element if _tag(one) in ("value", "item", "element", "cvalue", "map", "pair")]
    if len(members) == 1 and _tag(members[0]) == "map" and not kind.endswith("v"):
        members = list(members[0])
    if kind in _VECTORS and kind not in ("dict", "map"):
        if not members and (text := _said(element, "value") or (element.text or "").strip()):
            return [_typed(part.strip(), kind.removesuffix("v"), typed) for part in text.strip("[]").split(",")]
        return [_nested_value(one, kind.removesuffix("v"), typed) for one in members]
    if kind in ("dict", "map", "omkey", "pair") and members:
        named = {one.get("name") or one.get("label") or one.get("key") or "": _typed(_text(one), "string", typed) for one in members}
        return named if "" not in named else [_typed(_text(one), "string", typed) for one in members]
    text = _said(element, "value") if element.get("value") is not None or any(_tag(one) == "value" for one in element) else (element.text or "").strip()
    unit = next((one.get("unit") for one in [element, *element] if one.get("unit")), "")
    return f"{text}*{unit}" if unit else _typed(text, kind, typed)


def _nested_value(element: Element, kind: str, typed: bool) -> Any:
    members = list(element)
    if members:
        return [_typed(_text(one), kind, typed) for one in members]
    return _typed(_text(element), kind, typed)


def _text(element: Element) -> str:
    return (element.get("value") or element.text or "").strip()


def _typed(text: str, kind: str, typed: bool) -> Any:
    if typed and kind in ("int", "integer", "long", "float", "double") and "$" in text:
        return text if text.startswith("$eval(") else f"$eval({text})"  # so that it is a number, whatever its parts are
    try:
        if kind in ("int", "integer", "long"):
            number: Any = int(text)
        elif kind in ("float", "double"):
            number = float(text)
        elif kind in ("bool", "boolean") and typed and text.lower() in ("true", "false", "1", "0", "yes", "no"):
            return text.lower() in ("true", "1", "yes")
        else:
            return text
    except ValueError:
        return text
    # a text that would change (007, 1e3) stays one: it may stand in a name
    return number if typed or str(number) == text else text


def _nested(element: Element) -> Any:
    if not len(element):
        return (element.text or "").strip()
    found: dict[str, Any] = {}
    for child in element:
        name, value = _tag(child), _nested(child)
        found[name] = [*found[name], value] if isinstance(found.get(name), list) else [found[name], value] if name in found else value
    return found


def _shown(element: Element) -> str:
    """An element as it is written, on one line."""
    return re.sub(r"\s+", " ", ET.tostring(element, encoding="unicode").strip()).replace(' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"', "")
