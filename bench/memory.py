"""Peak memory of every long command, through the whole database."""

import lab

TITLE = "Memory"
AIM = "at most 256 MiB at any size"
LIMIT = 256 << 20


def measure(tools, size):
    with lab.fresh("memory") as folder:
        with lab.loaded_server(tools, size, folder / "data") as server:
            shard = lab.Shard(server, folder / "backstop", "clone")
            peaks = {"backup, full": shard.backstop("backup")[1], "backup, incremental": shard.backstop("backup")[1]}
        peaks["verify --content"] = shard.backstop("verify", "--content")[1]
        peaks["recover"] = shard.recover(folder / "recovered")[0]
        data = lab.tree_bytes(folder / "data")
    rows = [[name, lab.mib(peak), "yes" if peak <= LIMIT else "**no**"] for name, peak in peaks.items()]
    text = f"Peak resident memory (VmHWM) of `backstop` itself, without the servers it starts; {lab.mib(data)} of files."
    return f"{text}\n\n{lab.table(['command', 'peak', f'within {lab.mib(LIMIT)}'], rows)}"
