"""Writes docs/configuration.md from the keys in icp.config: python docs/generate_configuration.py"""

from pathlib import Path

from icp.config import KEYS, Key

HEAD = """# Configuration

Generated from `icp/config/keys.py` by `docs/generate_configuration.py`. `icp config explain KEY` says the same of one key.

The file is `config.toml`, in `$ICP_HOME` if that is set (it then holds the ledger and all else too), otherwise in
`$XDG_CONFIG_HOME/icp`, which is `~/.config/icp`. No file is needed: this machine is then the one site, named `local`. A key that
does not exist is an error that names the nearest one. `*` stands for a name of yours.

```toml
[site.local.attributes]
GPU = true

[site.local.pilot]
cpus = 4
memory = "8 GB"
```

The ledger's own place is `ledger.sqlite` in `$XDG_DATA_HOME/icp` (`~/.local/share/icp`), the spool of this machine and the engine's
lock are in `$XDG_STATE_HOME/icp` (`~/.local/state/icp`). `ICP_DEBUG=1` shows tracebacks, `ICP_NODE_DIR` is where agents of a node
know of each other (default: `/tmp/icp-UID`), `NO_COLOR` is respected.

| key | is | default | meaning |
| --- | --- | --- | --- |
"""

KINDS = {
    "text": "text", "path": "an absolute path", "number": "a number", "count": "a whole number", "bool": "true or false",
    "size": 'a size: "2 GB", "2 GiB", or MB', "time": 'a time: "2 h", "30 min", or seconds', "any": "text, number, true or false",
    "times": "a list of seconds", "texts": "a list of texts", "host": "a host", "scheduler": "a batch system", "place": "an absolute path there",
    "mode": "pilots or direct", "command": "a command line", "events": "a list of events", "ways": "a list of ways", "repositories": "a list of repositories",
    "sha256": "64 hexadecimal digits", "shipments": "a list of texts",
}  # fmt: skip


def row(key: Key) -> str:
    default = "" if key.default is None else f"`{list(key.default) if isinstance(key.default, tuple) else key.default}`"
    return f"| `{key.path}` | {KINDS[key.kind]} | {default} | {key.doc} |\n"


if __name__ == "__main__":
    Path(__file__).with_name("configuration.md").write_text(HEAD + "".join(map(row, KEYS)), encoding="utf-8")
