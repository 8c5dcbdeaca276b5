"""Schema of the Rundeck job definitions: the keys that Rundeck documents, since it publishes no schema.

https://docs.rundeck.com/docs/manual/document-format-reference/job-yaml-v12.html"""

import re
import uuid

JOB = {"uuid", "name", "group", "description", "loglevel", "executionEnabled", "scheduleEnabled", "multipleExecutions",
       "nodeFilterEditable", "nodesSelectedByDefault", "nodefilters", "notification", "loglimit", "loglimitAction", "timeout", "options",
       "sequence"}
# Jobs that only read, and recoveries that continue with the same options.
RETRIED = {"status", "verify", "find-latest", "recover"}
# Jobs that make a server on their node, which is chosen at the start. The others run on the node that has Backstop's settings.
ON_HOST = {"Recover a shard to a moment", "Recover a lost shard"}
DISPATCH = {"excludePrecedence", "keepgoing", "rankOrder", "successOnEmptyNodeFilter", "threadcount"}
OPTION = {"name", "label", "description", "required", "enforced", "regex", "value", "values", "valuesUrl"}
SEQUENCE = {"keepgoing", "strategy", "commands"}
INSTALLED = "/opt/backstop/rundeck/"


def complaints(jobs):
    """Returns the faults of a list of jobs."""
    found = []
    names = [job.get("uuid") for job in jobs]
    found += [f"uuid {name} is used twice" for name in set(names) if names.count(name) > 1]
    for job in jobs:
        found += [f"job {job.get('name')}: {wrong}" for wrong in wrong_with_job(job)]
    return found


def wrong_with_job(job):
    yield from keys(job, JOB | {"retry"}, JOB)
    on_host, filters = job.get("name") in ON_HOST, job.get("nodefilters", {})
    yield from keys(filters, {"dispatch", "filter"}, {"dispatch", "filter"})
    yield from keys(filters.get("dispatch", {}), DISPATCH, DISPATCH)
    if filters.get("filter") != ("tags: backstop-host" if on_host else "tags: backstop"):
        yield "it runs on other nodes than those of Backstop"
    if (job.get("nodeFilterEditable"), job.get("nodesSelectedByDefault")) != (on_host, not on_host):
        yield "its node is chosen at the start if it makes a server there, and only then"
    if not re.fullmatch(r"\d+(/node|[GMK]?B)?", str(job.get("loglimit"))) or job.get("loglimitAction") not in ("halt", "truncate"):
        yield "its log has no limit"
    if not str(job.get("loglevel")) in ("DEBUG", "VERBOSE", "INFO", "WARN", "ERROR"):
        yield "its log level is unknown"
    if "email" not in job.get("notification", {}).get("onfailure", {}):
        yield "its failure notifies no one"
    script = str(job.get("sequence", {}).get("commands", [{}])[0].get("exec")).rpartition("/")[2]
    if "retry" in job and not (str(job["retry"].get("retry")).isdigit() and re.fullmatch(r"\d+[smhd]", str(job["retry"].get("delay")))):
        yield "its retry has no number or no delay"
    if "retry" in job and script not in RETRIED:
        yield f"a retry would repeat {script}"
    try:
        uuid.UUID(str(job.get("uuid")))
    except ValueError:
        yield f"{job.get('uuid')} is not a UUID"
    if not re.fullmatch(r"\d+[smhd]", str(job.get("timeout"))):
        yield "its timeout has no unit"
    seen = {"shard"} if any(option.get("name") == "shard" for option in job.get("options", [])) else set()
    for option in job.get("options", []):
        yield from (f"option {option.get('name')}: {wrong}" for wrong in wrong_with_option(option, seen))
    sequence = job.get("sequence", {})
    yield from keys(sequence, SEQUENCE, SEQUENCE)
    commands = sequence.get("commands", [])
    if len(commands) != 1:
        yield "it is not one command"
    for command in commands:
        yield from keys(command, {"description", "exec"}, {"description", "exec"})
        # An option written into a command line is read by a shell: the scripts take options from the environment.
        if not re.fullmatch(re.escape(INSTALLED) + r"[a-z-]+", str(command.get("exec"))):
            yield f"`{command.get('exec')}` is not the bare path of a script"


def wrong_with_option(option, known):
    yield from keys(option, OPTION, {"name", "label", "description", "required"})
    if not re.fullmatch(r"[a-z]+", str(option.get("name"))):
        yield "its name is no variable's"
    if option.get("enforced") and not ("values" in option or "valuesUrl" in option):
        yield "only its choices are allowed, and it has none"
    if "value" in option and "values" in option and option["value"] not in option["values"]:
        yield "its default is none of its choices"
    try:
        re.compile(option.get("regex", ""))
    except re.error as error:
        yield f"its regex: {error}"
    for name in re.findall(r"\$\{option\.(\w+)\.value\}", option.get("valuesUrl", "")):
        if name not in known:
            yield f"its choices depend on the option {name}, which the job does not have"


def keys(what, known, needed):
    yield from (f"unknown key {key}" for key in sorted(set(what) - known))
    yield from (f"no {key}" for key in sorted(needed - set(what)))


ACTIONS = {"view", "read", "run", "kill"}


def wrong_with_acl(policies, jobs):
    """Returns the faults of access policies: each job is run by one group at least, and no group changes jobs."""
    run = set()
    for policy in policies:
        for rule in policy["for"].get("job", []):
            yield from (f"{policy['description']}: allows {action}" for action in set(rule["allow"]) - ACTIONS)
            matched = {job["name"] for job in jobs if re.fullmatch(rule["match"]["name"], job["name"])}
            if rule["match"]["name"] != ".*":
                yield from (f"{policy['description']}: no job is called {name}" for name in set(rule["match"]["name"].split("|")) - matched)
            if "run" in rule["allow"]:
                run |= matched
    yield from (f"no group may run {job['name']}" for job in jobs if job["name"] not in run)


def runners(policies, name):
    """Returns the groups that may run a job."""
    return {group for policy in policies for rule in policy["for"].get("job", []) if "run" in rule["allow"] and re.fullmatch(rule["match"]["name"], name)
            for group in ([policy["by"]["group"]] if isinstance(policy["by"]["group"], str) else policy["by"]["group"])}
