"""Every command of a submit description that is known, as data (hides nothing: this is the list; docs/foreign.md shows it)."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["ATTRIBUTES", "FLAVOURS", "PASSED_OVER", "REFUSED", "SYNONYMS", "UNDERSTOOD"]

SYNONYMS: Mapping[str, str] = {
    "args": "arguments", "env": "environment", "stdin": "input", "stdout": "output", "stderr": "error", "initial_dir": "initialdir",
    "iwd": "initialdir", "prio": "priority", "transferinputfiles": "transfer_input_files", "transferoutputfiles": "transfer_output_files",
    "job_batch_name": "batch_name", "jobbatchname": "batch_name", "accountinggroup": "accounting_group", "cmd": "executable",
}  # fmt: skip

UNDERSTOOD = (
    "executable", "arguments", "environment", "input", "output", "error", "initialdir", "transfer_executable", "transfer_input_files",
    "transfer_output_files", "transfer_output_remaps", "preserve_relative_paths", "should_transfer_files", "when_to_transfer_output",
    "request_cpus", "request_memory", "request_disk", "request_gpus", "gpus_minimum_memory", "allowed_execute_duration",
    "allowed_job_duration", "requirements", "priority", "max_retries", "universe", "getenv", "batch_name", "accounting_group",
)  # fmt: skip

ATTRIBUTES = ("+maxruntime", "+maxwalltimemins", "+jobflavour", "+jobbatchname", "+projectname", "+icpoverflow")
"""Attributes of a job that mean something."""

FLAVOURS: Mapping[str, str] = {
    "espresso": "20 min", "microcentury": "1 h", "longlunch": "2 h", "workday": "8 h", "tomorrow": "1 d", "testmatch": "3 d", "nextweek": "7 d",
}  # fmt: skip
"""+JobFlavour of CERN's pools -> time."""

_EVERY_TIME = "the policy of a pool; icp tries again by itself (max_retries)"
PASSED_OVER: Mapping[str, str] = {
    "log": "there is no event log; `icp show` and `icp logs` tell what happened",
    "notification": "icp sends no mail", "notify_user": "icp sends no mail",
    "rank": "there is no order among the sites that fit",
    "stream_output": "`icp logs` shows what runs now only where output is not said", "stream_error": "see stream_output",
    "accounting_group_user": "nobody is charged here", "nice_user": "priority = -1 says it", "leave_in_queue": "a dataset stays until `icp delete`",
    "job_lease_duration": _EVERY_TIME, "periodic_release": _EVERY_TIME, "periodic_hold": _EVERY_TIME, "periodic_remove": _EVERY_TIME,
    "on_exit_hold": _EVERY_TIME, "on_exit_remove": _EVERY_TIME, "retry_until": _EVERY_TIME, "on_exit_hold_reason": _EVERY_TIME,
    "periodic_hold_reason": _EVERY_TIME, "job_max_vacate_time": _EVERY_TIME, "kill_sig": _EVERY_TIME,
    "concurrency_limits": "`icp config set site.NAME.pilot.max` limits what runs at once", "max_materialize": "jobs become rows as they are needed",
    "max_idle": "jobs become rows as they are needed", "copy_to_spool": "files are shipped once for each dataset", "coresize": "no core files are kept",
    "use_x509userproxy": "no proxy is sent along", "x509userproxy": "no proxy is sent along", "use_oauth_services": "no credentials are sent along",
    "description": "the file's name is the dataset's", "want_graceful_removal": "there is no vacating", "job_ad_information_attrs": "there is no event log",
    "ulog_execute_attrs": "there is no event log", "stack_size": "limits are the site's", "run_as_owner": "pilots run as you",
    "image_size": "request_memory says it",
    "skip_filechecks": "files are looked at when they are shipped", "append_files": "files are written anew",
}  # fmt: skip

_IMAGE = "jobs in containers have no counterpart yet: run the container in the job's script"
REFUSED: Mapping[str, str] = {
    "docker_image": _IMAGE, "container_image": _IMAGE, "singularity_image": _IMAGE, "+singularityimage": _IMAGE,
    "success_exit_code": "only exit code 0 is success; say so in a script: `prog; [ $? = 3 ]`",
    "deferral_time": "a job that waits for a moment has no counterpart", "cron_minute": "a job that waits for a moment has no counterpart",
    "cron_hour": "a job that waits for a moment has no counterpart", "machine_count": "jobs of more than one machine have no counterpart",
    "node_count": "jobs of more than one machine have no counterpart", "hold": "a job that is held has no counterpart: submit, then `icp suspend`",
    "transfer_plugins": "files are not fetched by plugins", "transfer_output_url": "outputs go to the dataset's folder", "output_destination":
    "outputs go to the dataset's folder", "vm_type": "virtual machines have no counterpart", "grid_resource": "sites are icp's own",
    "noop_job": "a job that does nothing has no counterpart", "manifest": "there is no manifest of the sandbox",
}  # fmt: skip
