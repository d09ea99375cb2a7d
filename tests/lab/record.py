"""Records what a real batch system answers to our questions, for tests/golden: record.py SSH_CONFIG SITE SYSTEM FOLDER, and what its host
shows of itself: record.py SSH_CONFIG SITE survey FILE.

Jobs of every fate, the listing while some live, the accounting of those that left, what is said when there is nothing and when the
scheduler is down (killed by hand: the script waits), and what a refused submit prints. What should come out of it is written by a person.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from icp.backends.batch import system  # noqa: E402
from icp.backends.survey import script  # noqa: E402

LEDGER = "0a1b2c3d-1111-2222-3333-444444444444"

SGE = """cd ~ && mkdir -p rec && cd rec || exit
name() { echo "icp-0a1b2c3d-000000000000000$1"; }
mk() { printf '#!/bin/sh\\n#$ -S /bin/sh\\n#$ -o /dev/null\\n#$ -e /dev/null\\n#$ -r n\\n%s\\n' "$2" >j.sh
n=$1; shift 2; qsub -terse -N "$n" "$@" j.sh; }
mk "$(name 1)" 'exit 0'; mk "$(name 2)" 'exit 7'; mk "$(name 3)" 'sleep 600'; mk "$(name 4)" 'sleep 600' -h; mk "$(name 5)" 'kill -9 $$'
mk "$(name 6)" 'sleep 600' -o /nonexistent/x; mk "$(name 7)" 'sleep 600' -l h_rt=0:0:03
mk "$(name 8)" 'sleep 600' -pe smp 64
c=$(mk "$(name 9)" 'sleep 600' -pe smp 2); mk "$(name a)" 'sleep 600'; mk "$(name a)" 'sleep 600' -h; mk 'of_the_user' 'sleep 600'
sleep 3; qdel "$c"; sleep 4"""
CONDOR = """cd ~ && mkdir -p rec && cd rec || exit
name() { echo "icp-0a1b2c3d-000000000000000$1"; }
mk() { n=$1; a=$2; shift 2; { printf '%s\\n' universe=vanilla executable=/bin/sh transfer_executable=false "arguments=\\"$a\\"" output=/dev/null \\
  error=/dev/null "+IcpPilot=\\"$n\\"" "batch_name=$n" should_transfer_files=YES 'transfer_output_files=""' "$@" queue; } >j.sub
  condor_submit j.sub | grep -o 'cluster [0-9]*' ; }
mk "$(name 1)" "-c 'exit 0'"; mk "$(name 2)" "-c 'exit 7'"; mk "$(name 3)" "-c 'sleep 600'"; mk "$(name 4)" "-c 'sleep 600'" hold=True
mk "$(name 5)" "-c 'kill -9 \\$\\$'"; mk "$(name 6)" "-c 'sleep 600'" request_cpus=64
mk "$(name 7)" "-c 'sleep 600'" transfer_input_files=/nonexistent/x
mk "$(name 8)" "-c 'sleep 600'" 'periodic_remove = (JobStatus == 2) && (time() - EnteredCurrentStatus > 3)'
mk "$(name 9)" "-c 'sleep 600'"; mk "$(name a)" "-c 'sleep 600'"; mk "$(name a)" "-c 'sleep 600'" hold=True; mk of_the_user "-c 'sleep 600'"
sleep 20; condor_rm -constraint "IcpPilot == \\"$(name 9)\\""; sleep 12"""
TORQUE = """cd ~ && mkdir -p rec && cd rec || exit
name() { echo "icp-0a1b2c3d-000000000000000$1"; }
mk() { printf '#!/bin/sh\\n#PBS -l walltime=0:10:00\\n%s\\n' "$2" >j.sh; n=$1; shift 2; qsub -N "$n" -o /dev/null -e /dev/null -r n "$@" j.sh; }
mk "$(name 1)" 'exit 0'; mk "$(name 2)" 'exit 7'; mk "$(name 3)" 'sleep 600' -l nodes=1:ppn=2; mk "$(name 4)" 'sleep 600' -h; mk "$(name 5)" 'kill -9 $$'
mk "$(name 8)" 'sleep 600' -l nodes=9; c=$(mk "$(name 9)" 'sleep 600'); mk "$(name a)" 'sleep 600'; mk "$(name a)" 'sleep 600' -h; mk of_the_user 'sleep 600'
sleep 2; qdel "$c"; sleep 2"""
PBS = """cd ~ && mkdir -p rec && cd rec || exit
name() { echo "icp-0a1b2c3d-000000000000000$1"; }
mk() { printf '#!/bin/sh\\n#PBS -l walltime=0:10:00\\n%s\\n' "$2" >j.sh; n=$1; shift 2; qsub -N "$n" -o $PWD/out -e $PWD/out -r n "$@" j.sh; }
mk "$(name 1)" 'exit 0'; mk "$(name 2)" 'exit 7'; mk "$(name 3)" 'sleep 600' -l select=1:ncpus=6; mk "$(name 4)" 'sleep 600' -h; mk "$(name 5)" 'kill -9 $$'
mk "$(name 7)" 'sleep 600' -l walltime=0:0:03; c=$(mk "$(name 9)" 'sleep 600' -l select=1:ncpus=2); d=$(mk "$(name c)" 'sleep 600' -h)
mk "$(name a)" 'sleep 600' -l select=1:ncpus=2; mk "$(name a)" 'sleep 600' -h; mk of_the_user 'sleep 600'; echo "$c"; echo "$d"
mk "$(name 6)" 'sleep 600' -l select=2:ncpus=7; mk "$(name 8)" 'sleep 600' -l select=1:ncpus=64
sleep 8; qdel "$c" "$d"; mk "$(name b)" 'trap "" TERM; sleep 600' -l select=1:ncpus=1
sleep 45"""
REFUSED = {
    "pbs": (
        "-q nosuch", "-l walltime=x", "-l select=1:ncpus=1:mem=9999gb", "-l select=1:ncpus=1:ngpus=1", "-l select=1:ncpus=1:nosuch=1", "-A a:b",
    ),
    "sge": ("-q nosuch", "-P nosuch", "-pe nosuch 2", "-l nosuch=1", "-l h_rt=x", "-pe smp 64 -w e", "-N 1abc"),
    "torque": ("-q nosuch", "-l walltime=x", "-l mem=9999gb", "-l nodes=1:ppn=2:gpus=1", "-l nodes=1:nosuch"),
    "condor": ("requirements=(", "universe=nosuch", "request_cpus=("),
}
END = {"pbs": "qselect | xargs -rn 1 qdel", "sge": "qdel -u $USER", "condor": "condor_rm -all", "torque": "qstat | awk 'NR > 2 {print $1}' | xargs -rn 1 qdel"}


def main(config: str, site: str, name: str, folder: Path) -> None:
    """Write listing.out, accounting.out and said.json."""
    batch = system(name)

    def ssh(words: list[str] | str, text: str = "") -> tuple[int, str, str]:
        import shlex

        command = words if isinstance(words, str) else shlex.join(words)
        done = subprocess.run(["ssh", "-F", config, site, command], input=text, capture_output=True, text=True, timeout=120, check=False)
        return done.returncode, done.stdout, done.stderr

    folder.mkdir(parents=True, exist_ok=True)
    ssh(END[name])
    time.sleep(3)
    said: dict[str, object] = {"nothing": ssh(batch.questions(LEDGER, (), None)[0])}
    made = ssh("bash -s", {"sge": SGE, "condor": CONDOR, "torque": TORQUE, "pbs": PBS}[name])[1]
    jobs = re.findall(r"[0-9]+(?:[.][a-z]\w*)?", re.sub(r"[^\n]*registered.*|of_the.*", "", made))
    listing = ssh(batch.questions(LEDGER, (), None)[0])
    (folder / "listing.out").write_text(listing[1])
    asked = [*jobs, "99999"]
    accounting = batch.questions(LEDGER, asked, None)[1]
    answered = ssh(accounting)
    (folder / "accounting.out").write_text(answered[1])
    said["listing"], said["accounting"] = [listing[0], listing[2]], [answered[0], answered[2]]
    said["jobs"] = jobs
    refused = []
    for option in REFUSED[name]:
        if name == "condor":
            line = f"printf '%s\\n' executable=/bin/true '{option}' queue > x.sub; condor_submit x.sub"
        else:
            line = f"printf '#!/bin/sh\\ntrue\\n' > x.sh; qsub {option} x.sh"
        refused.append([option, *ssh(line)])
    said["refused"] = refused
    ssh(END[name])
    input("kill the scheduler now, and press return: ")
    said["down"] = {"listing": ssh(batch.questions(LEDGER, (), None)[0]), "submit": ssh("condor_submit rec/j.sub" if name == "condor" else "qsub rec/j.sh")}
    (folder / "said.json").write_text(json.dumps(said, indent=1) + "\n")


def survey(config: str, site: str, file: Path) -> None:
    done = subprocess.run(["ssh", "-F", config, site, "/bin/sh -s"], input=script(None, None), capture_output=True, text=True, timeout=120, check=True)
    file.write_text(done.stdout)


if __name__ == "__main__" and sys.argv[3] == "survey":
    survey(sys.argv[1], sys.argv[2], Path(sys.argv[4]))
elif __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]))
