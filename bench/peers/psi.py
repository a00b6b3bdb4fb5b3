#!/usr/bin/env python3
"""What others take to intersect two files, beside Privet, on the same files in the same run.

    python3 bench/peers/psi.py --privet target/release/privet --items 65536

Peers that are not installed are left out, with the reason. `pip install openmined-psi==2.0.6 spu==0.9.5` (Python
3.10 or 3.11) brings them; nothing of Privet needs them. Two CSV files of so many ids, half of which both have
(`privet bench psi` writes the same ones itself); two processes on loopback; both learn the intersection, but of
OpenMined's the client alone. The clock of a peer starts when its libraries are imported and its parties connected,
and ends when the rows are written; Privet's takes in the start of its processes. What Python's start and the imports
add is in the JSON. Memory is that of whole processes. SPU is spared looking for ids that come twice and putting both
outputs in one order.

Bytes are those that both sides send, over the ids of one: as OpenMined's messages are serialised, as Privet's sites
count them at their sockets, and for SPU as the interface `lo` counts them, packets' headers included. That is no
measure while another program talks on `lo`; a row says so when it did right before or after. As root,
`unshare -n sh -c 'ip link set lo up && exec python3 bench/peers/psi.py'` has a `lo` of its own. A row also says when
others had more than a tenth of the processors.
"""

import argparse
import csv
import importlib.metadata
import importlib.util
import json
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import resource
import socket
import subprocess
import sys
import tempfile
import time

ID = "id"
# No party may take longer, in seconds.
LIMIT = 3600
# For how long `lo` is watched before and after a peer's work, in seconds.
REST = 0.5


class Failed(Exception):
    """What a party said, or how it ended."""


def write_file(path, site, items):
    """A site's file, by the rule that `privet bench psi` has: a common half, a half of its own, in its own order."""
    common = items // 2
    with open(path, "w", newline="") as file:
        file.write(f"{ID},n\n")
        for i in range(items):
            place = i if items % 7919 == 0 else i * 7919 % items
            number = place if place < common else place + (site + 1) * items
            file.write(f"user{number:07}@example.com,{i}\n")


def ids_of(path):
    with open(path, newline="") as file:
        return [row[ID] for row in csv.DictReader(file)]


def processor_time():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def memory(key):
    """`VmRSS`, or `VmHWM`, the most that there was: `ru_maxrss` would begin with that of the process that forked."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) * 1024
    return 0


def loopback():
    """Bytes that were sent on `lo` so far, whichever way."""
    for line in pathlib.Path("/proc/net/dev").read_text().splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == "lo":
            return int(counts.split()[8])
    raise RuntimeError("/proc/net/dev has no lo")


def others_on_loopback():
    """Bytes a second, while parties wait."""
    before = loopback()
    time.sleep(REST)
    return (loopback() - before) / REST


def busy():
    """Seconds that all processors worked so far, for whomever."""
    user, nice, system, _, _, irq, softirq, steal = map(int, pathlib.Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def of_others(worked, own, wall):
    """The share of all processors that others had meanwhile."""
    return max(worked - own, 0) / (wall * os.cpu_count())


def crowded(share):
    return f"; OTHERS HAD {share:.0%} OF THE PROCESSORS" if share > 0.1 else ""


def children_time():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def send(to, message):
    data = message.SerializeToString()
    to.sendall(len(data).to_bytes(8, "big"))
    to.sendall(data)
    return len(data)


def receive(source, message):
    def exactly(size):
        data = bytearray()
        while len(data) < size:
            part = source.recv(min(size - len(data), 1 << 20))
            if not part:
                raise EOFError("the other party is gone")
            data += part
        return bytes(data)

    message.ParseFromString(exactly(int.from_bytes(exactly(8), "big")))
    return message


def openmined_party(rank, ports, source, target, settings):
    """Connects when called, and gives the work: rank 0 is the client, which learns, rank 1 the server."""
    import private_set_intersection.python as psi

    if rank == 1:
        with socket.create_server(("127.0.0.1", ports[1])) as listener:
            link, _ = listener.accept()
    else:
        link = connected(ports[1])

    def client():
        ids = ids_of(source)
        own = psi.client.CreateWithNewKey(True)
        sent = send(link, own.CreateRequest(ids))
        setup = receive(link, psi.ServerSetup())
        answer = receive(link, psi.Response())
        found = own.GetIntersection(setup, answer)
        with open(target, "w", newline="") as file:
            file.write(f"{ID}\n")
            file.writelines(f"{ids[at]}\n" for at in found)
        return sent

    def server():
        ids = ids_of(source)
        own = psi.server.CreateWithNewKey(True)
        setup = own.CreateSetupMessage(settings["fpr"], settings["items"], ids, psi.DataStructure.GCS)
        request = receive(link, psi.Request())
        sent = send(link, setup)
        return sent + send(link, own.ProcessRequest(request))

    return server if rank == 1 else client


def connected(port):
    end = time.monotonic() + 30
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def spu_party(rank, ports, source, target, settings):
    from spu import libspu, psi

    description = libspu.link.Desc()
    for number, port in enumerate(ports):
        description.add_party(f"party{number}", f"127.0.0.1:{port}")
    description.connect_retry_times = 300
    description.connect_retry_interval_ms = 100
    description.recv_timeout_ms = LIMIT * 1000
    link = libspu.link.create_brpc(description, rank)
    protocol = psi.PsiProtocolConfig(
        protocol=psi.parse_protocol(settings["protocol"]),
        receiver_rank=0,
        broadcast_result=True,
        ecdh_params=psi.EcdhParams(curve=psi.parse_curve_type(settings.get("curve", "CURVE_FOURQ"))),
        rr22_params=psi.Rr22Rarams(low_comm_mode=False),
    )
    config = psi.PsiExecuteConfig(
        protocol_conf=protocol,
        input_params=psi.InputParams(path=source, selected_keys=[ID], keys_unique=True),
        output_params=psi.OutputParams(path=target, disable_alignment=True),
    )

    def work():
        psi.psi_execute(config, link)

    return work


def party(connect, rank, pipe, log, arguments):
    """What a party's process does: it says when it is ready, works when told, and ends when told."""
    # Libraries write to standard output, which is the table's or the document's.
    said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(said, 1)
    os.dup2(said, 2)
    try:
        work = connect(rank, *arguments)
        ready = {"cpu": processor_time(), "rss": memory("VmRSS")}
        pipe.send(ready)
        pipe.recv()
        start, used = time.perf_counter(), processor_time()
        sent = work()
        wall, used = time.perf_counter() - start, processor_time() - used
        pipe.send({"wall": wall, "cpu": used, "rss": memory("VmHWM"), "sent": sent})
        pipe.recv()
    except Exception as error:
        pipe.send({"error": f"{type(error).__name__}: {error}".splitlines()[0]})


def gather(pipes, processes):
    """What each party says next. One that fails speaks for both."""
    said, end = {}, time.monotonic() + LIMIT
    while len(said) < len(pipes):
        waited = [p for p in pipes if p not in said]
        heard = multiprocessing.connection.wait(waited, max(end - time.monotonic(), 0))
        if not heard:
            raise Failed(f"not done in {LIMIT} s")
        for pipe in heard:
            try:
                said[pipe] = pipe.recv()
            except EOFError:
                process = processes[pipes.index(pipe)]
                process.join(5)
                raise Failed(f"a party's process ended with exit code {process.exitcode}") from None
            if "error" in said[pipe]:
                raise Failed(said[pipe]["error"])
    return [said[pipe] for pipe in pipes]


def beside(connect, folder, files, settings):
    """Runs both parties of a peer beside each other."""
    context = multiprocessing.get_context("spawn")
    targets = [str(folder / f"out-{rank}.csv") for rank in (0, 1)]
    for target in targets:
        pathlib.Path(target).unlink(missing_ok=True)
    ports, pipes, processes = free_ports(2), [], []
    before = children_time()
    began = time.perf_counter()
    try:
        for rank in (0, 1):
            mine, theirs = context.Pipe()
            arguments = (ports, files[rank], targets[rank], settings)
            process = context.Process(
                target=party, args=(connect, rank, theirs, str(folder / "party.log"), arguments), daemon=True
            )
            process.start()
            theirs.close()
            pipes.append(mine)
            processes.append(process)
        ready = gather(pipes, processes)
        at_rest = others_on_loopback()
        counted, worked = loopback(), busy()
        for pipe in pipes:
            pipe.send("go")
        done = gather(pipes, processes)
        worked, counted = busy() - worked, loopback() - counted
        whole = time.perf_counter() - began - REST
        at_rest = max(at_rest, others_on_loopback())
        for pipe in pipes:
            pipe.send("bye")
        for process in processes:
            process.join(30)
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
                process.join()
    measured = {
        "wall_s": max(side["wall"] for side in done),
        "cpu_s": sum(side["cpu"] for side in done),
        "peak_rss_bytes": max(side["rss"] for side in done),
        "rss_before_bytes": max(side["rss"] for side in ready),
        "wall_with_start_s": whole,
        "cpu_with_start_s": children_time() - before,
    }
    measured["others_share"] = of_others(worked, measured["cpu_s"], measured["wall_s"])
    if all(side["sent"] is not None for side in done):
        measured["bytes"] = sum(side["sent"] for side in done)
        measured["bytes_from"] = "serialised messages"
    else:
        measured["bytes"] = counted
        measured["bytes_from"] = "lo"
        measured["lo_at_rest_bytes_per_s"] = at_rest
        measured["lo_was_quiet"] = at_rest * measured["wall_s"] <= counted / 100
    return measured, targets


def ours(binary, items, protocol):
    command = [binary, "bench", "psi", "--items", str(items), "--protocol", protocol, "--json"]
    worked, used, wall = busy(), children_time(), time.perf_counter()
    run = subprocess.run(command, capture_output=True, text=True)
    worked, used, wall = busy() - worked, children_time() - used, time.perf_counter() - wall
    share = of_others(worked, used, wall)
    if run.returncode != 0:
        last = (run.stderr.strip() or run.stdout.strip() or "it says nothing").splitlines()[0]
        raise Failed(f"exit code {run.returncode}: {last}")
    measured = json.loads(run.stdout)
    return {
        "name": f"privet {measured['protocol']}",
        "privet": True,
        "wall_s": measured["wall_s"],
        "cpu_s": measured["cpu_s"],
        "bytes_per_item": measured["bytes_per_item"],
        "peak_rss_bytes": measured["peak_rss_bytes"],
        "intersection": measured["intersection"],
        "right": measured["intersection"] == measured["expected"],
        "others_share": share,
        "note": f"{measured['threads']} threads a process; counted, not compared id by id" + crowded(share),
        "measured": measured,
    }


def row(name, note, connect, folder, files, items, settings, learn):
    measured, targets = beside(connect, folder, files, settings)
    common = set(ids_of(files[0])) & set(ids_of(files[1]))
    found = [ids_of(target) for target in targets[:learn]]
    note += f"; {measured['rss_before_bytes'] / 1e6:.0f} MB before the work"
    if measured["bytes_from"] == "lo":
        note += "; bytes by lo" + ("" if measured["lo_was_quiet"] else ", WHICH WAS NOT QUIET")
    return {
        "name": name,
        "privet": False,
        **measured,
        "bytes_per_item": measured["bytes"] / items,
        "intersection": len(found[0]),
        "right": all(len(ids) == len(common) and set(ids) == common for ids in found),
        "note": note + crowded(measured["others_share"]),
    }


def version(package, module):
    """Of an installed package; the module is not imported."""
    if importlib.util.find_spec(module) is None:
        raise ModuleNotFoundError(f"No module named '{module}'")
    return f"{package} {importlib.metadata.version(package)}"


def openmined(folder, files, items):
    note = version("openmined-psi", "private_set_intersection") + ": GCS, fpr 1e-9; the client alone learns"
    settings = {"fpr": 1e-9, "items": items}
    yield "openmined", lambda: row("openmined", note, openmined_party, folder, files, items, settings, learn=1)


def spu(folder, files, items):
    which = version("spu", "spu")
    wanted = (
        ("spu RR22", {"protocol": "PROTOCOL_RR22"}, ": fast mode"),
        ("spu KKRT", {"protocol": "PROTOCOL_KKRT"}, ""),
        ("spu ECDH-FourQ", {"protocol": "PROTOCOL_ECDH", "curve": "CURVE_FOURQ"}, ""),
    )
    for name, settings, note in wanted:
        def measure(name=name, settings=settings, note=note):
            return row(name, which + note, spu_party, folder, files, items, settings, learn=2)

        yield name, measure


def ratios(rows):
    """How many times what Privet takes each peer takes."""
    for own in (r for r in rows if r["privet"]):
        for peer in (r for r in rows if not r["privet"]):
            yield {
                "privet": own["name"],
                "peer": peer["name"],
                "wall": peer["wall_s"] / own["wall_s"],
                "cpu": peer["cpu_s"] / own["cpu_s"],
                "bytes": peer["bytes_per_item"] / own["bytes_per_item"],
            }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--privet", default="target/release/privet", help="the binary")
    parser.add_argument("--items", type=int, default=65_536, help="ids of each side, half of which are common")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    arguments = parser.parse_args()
    items = arguments.items
    if items < 2:
        parser.error("--items: at least 2")

    rows, skipped = [], {}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        files = [str(folder / f"site-{site + 1}.csv") for site in (0, 1)]
        for site, path in enumerate(files):
            write_file(path, site, items)
        work = [(f"privet {p}", lambda p=p: ours(arguments.privet, items, p)) for p in ("vole", "ecdh")]
        for peer in (openmined, spu):
            try:
                work.extend(peer(folder, files, items))
            except Exception as error:  # a peer that is not there is no reason to stop
                skipped[peer.__name__] = f"{type(error).__name__}: {error}"
        for who, measure in work:
            try:
                rows.append(measure())
            except Failed as error:
                skipped[who] = str(error)
            except Exception as error:
                skipped[who] = f"{type(error).__name__}: {error}"
    against = list(ratios(rows))

    if arguments.json:
        document = {"items": items, "common": items // 2, "cores": os.cpu_count(), "rows": rows,
                    "times_privets": against, "skipped": skipped}
        print(json.dumps(document, indent=2))
    else:
        print(f"{items} ids a side, {items // 2} common, two processes, {os.cpu_count()} cores\n")
        print(f"{'':18}{'wall s':>9}{'CPU s':>9}{'bytes/id':>10}{'peak MB':>9}{'right':>7}")
        for r in rows:
            print(
                f"{r['name']:18}{r['wall_s']:9.2f}{r['cpu_s']:9.2f}{r['bytes_per_item']:10.1f}"
                f"{r['peak_rss_bytes'] / 1e6:9.0f}{'yes' if r['right'] else 'NO':>7}   {r['note']}"
            )
        for reason in skipped.items():
            print("left out: {}: {}".format(*reason))
        if against:
            print("\nhow many times what Privet takes the other takes:")
        for a in against:
            print(
                f"{a['privet']} against {a['peer']}: wall {a['wall']:.1f}x, CPU {a['cpu']:.1f}x, "
                f"bytes {a['bytes']:.1f}x"
            )
    return 0 if any(r["privet"] for r in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
