#!/bin/sh
# What a real SLURM prints, for tests/golden/slurm: ssh -F /run/icp-lab/client/ssh_config nsb sh -s < record-slurm.sh
# Jobs of every fate; then the listing, the accounting seconds after and later, and refused submits.
cd ~ || exit
mk() { printf '#!/bin/sh\n#SBATCH --output=/dev/null\n#SBATCH --no-requeue\n%s\n' "$1" >job.sh; shift; sbatch --parsable "$@" job.sh; }
name() { echo "icp-0a1b2c3d-000000000000000$1"; }
fields=JobIDRaw,JobName,State,ExitCode,Elapsed,AllocCPUS
mk 'exit 0' -J "$(name 1)"
mk 'exit 7' -J "$(name 2)"
mk 'sleep 300' -J "$(name 3)"
mk 'sleep 300' -J "$(name 4)" -p debug -t 100
mk 'sleep 300' -J "$(name 5)" -N 5
mk 'sleep 300' -J "$(name 6)" -H
mk 'sleep 300' -J 'of | the user'
cancelled=$(mk 'sleep 300' -J "$(name 7)")
mk 'kill -9 $$' -J "$(name 8)"
mk 'sleep 300' -J "$(name 9)" -c 64
mk 'sleep 300' -J "$(name a)" --begin=now+1hour
mk 'sleep 300' -J "$(name b)"
sleep 2; scancel "$cancelled"
mk 'sleep 300' -J "$(name c)"
sleep 1
ids=$(squeue --me -h -t all -o %i | paste -sd,)
echo "--- squeue"; squeue --me -a -h -t all -o '%i|%T|%r|%j'; echo "rc $?"
echo "--- squeue of an id that is gone"; squeue -h -j 99999 -o '%i|%T'; echo "rc $?"
echo "--- sacct, early"; sacct -nXP -j "$ids,99999" -o $fields; echo "rc $?"
sleep 30
echo "--- sacct"; sacct -nXP -j "$ids,99999" -o $fields; echo "rc $?"
for o in '-p nosuch' '-A nosuch' '-t 90-0' '-q nosuch' '--mem=9999999' '-C nosuch' '-c 999' '-N 50'; do
    echo "--- sbatch $o"
    # shellcheck disable=SC2086
    mk "sleep 1" $o -J other 2>&1
    echo "rc $?"
done
scancel --me
