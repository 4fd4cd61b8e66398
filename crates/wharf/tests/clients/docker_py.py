"""docker-py's own calls, on whatever DOCKER_HOST names: the same on an engine as on a fleet. Ends with 0 if all is well.

Needs the image busybox:latest. Leaves nothing behind.
"""
import io
import os
import sys
import tarfile
import threading
import time

import docker
from docker.errors import APIError, ContainerError, ImageNotFound, NotFound
from docker.types import LogConfig, Mount, Ulimit

PREFIX = "py-"
client = docker.from_env(timeout=60)


def fails(error, status, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except error as failure:
        assert status is None or failure.response.status_code == status, failure
        return failure
    raise AssertionError(f"{call} did not fail")


def until(holds):
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def containers():
    assert client.containers.run("busybox", ["echo", "hello"], remove=True) == b"hello\n"
    failure = fails(ContainerError, None, client.containers.run, "busybox", ["sh", "-c", "echo no >&2; exit 3"], remove=True)
    assert failure.exit_status == 3 and b"no" in failure.stderr
    one = client.containers.run(
        "busybox", ["sleep", "1000"], name=PREFIX + "one", detach=True, environment={"A": "b"}, labels={"py": "1"},
        mem_limit="32m", ulimits=[Ulimit(name="nofile", soft=100, hard=200)], log_config=LogConfig(type="json-file"),
        tmpfs={"/scratch": "size=1m"}, restart_policy={"Name": "on-failure", "MaximumRetryCount": 2},
    )
    assert client.containers.get(one.id[:12]).name == PREFIX + "one"
    assert [found.id for found in client.containers.list(filters={"label": "py=1"})] == [one.id]
    assert one.attrs["HostConfig"]["Memory"] == 32 << 20 and one.status in ("running", "created")
    one.reload()
    assert one.status == "running" and one.labels["py"] == "1"
    assert any("sleep" in " ".join(process) for process in one.top()["Processes"])
    assert one.stats(stream=False)["memory_stats"] is not None
    assert next(iter(one.stats(stream=True, decode=True)))["cpu_stats"]
    one.pause()
    one.reload()
    assert one.status == "paused"
    one.unpause()
    one.rename(PREFIX + "two")
    one.update(mem_limit="48m", memswap_limit="96m")
    one.reload()
    assert one.name == PREFIX + "two" and one.attrs["HostConfig"]["Memory"] == 48 << 20
    one.restart(timeout=0)
    code, out = one.exec_run(["sh", "-c", "echo $A; echo err >&2; exit 4"], demux=True)
    assert (code, out) == (4, (b"b\n", b"err\n")), (code, out)
    _, stream = one.exec_run(["sh", "-c", "echo 1; echo 2"], stream=True)
    assert b"".join(stream) == b"1\n2\n"
    made = client.api.exec_create(one.id, ["cat"], stdin=True)
    socket = client.api.exec_start(made["Id"], socket=True)
    raw = getattr(socket, "_sock", socket)
    raw.sendall(b"through\n")
    assert raw.recv(8) == b"\x01\0\0\0\0\0\0\x08" and raw.recv(100) == b"through\n"
    raw.close()
    assert client.api.exec_inspect(made["Id"])["ContainerID"] == one.id
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        entry = tarfile.TarInfo("file")
        entry.size = 4
        tar.addfile(entry, io.BytesIO(b"text"))
    assert one.put_archive("/tmp", archive.getvalue())
    bits, stat = one.get_archive("/tmp/file")
    with tarfile.open(fileobj=io.BytesIO(b"".join(bits))) as tar:
        assert stat["size"] == 4 and tar.extractfile("file").read() == b"text"
    assert {"Path": "/tmp/file", "Kind": 1} in one.diff()
    assert sum(len(piece) for piece in one.export()) > 1000
    image = one.commit(repository=PREFIX + "image", tag="1")
    assert client.containers.run(image, ["cat", "/tmp/file"], remove=True) == b"text"
    client.images.remove(PREFIX + "image:1")
    one.kill()
    assert one.wait(timeout=30)["StatusCode"] == 137
    one.start()
    one.stop(timeout=0)
    one.remove(v=True)
    fails(NotFound, 404, client.containers.get, PREFIX + "two")
    fails(APIError, 400, client.containers.create, "busybox", name="a/b")
    fails(ImageNotFound, 404, client.api.create_container, PREFIX + "no-such-image")


def attach():
    one = client.containers.create("busybox", ["cat"], name=PREFIX + "cat", stdin_open=True)
    socket = one.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    raw = getattr(socket, "_sock", socket)
    one.start()
    raw.sendall(b"in and out\n")
    assert raw.recv(8)[7] == 11 and raw.recv(100) == b"in and out\n"
    raw.close()
    until(lambda: one.logs() == b"in and out\n")
    assert b"in and out" in next(iter(one.logs(stream=True)))
    one.remove(force=True)
    lines = client.containers.run("busybox", ["sh", "-c", "echo 1; echo 2"], name=PREFIX + "attached", detach=True)
    lines.wait()
    # Engines write the last of the log only after the container's end is told.
    until(lambda: lines.logs() == b"1\n2\n")
    assert lines.logs(tail=1) == b"2\n"
    lines.remove()


def images():
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        text = b"FROM busybox\nARG A\nRUN echo $A >/a\nLABEL py=image\n"
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
    context.seek(0)
    image, log = client.images.build(fileobj=context, custom_context=True, tag=PREFIX + "built:1", buildargs={"A": "b"})
    assert any("Successfully" in line.get("stream", "") for line in log) and image.labels["py"] == "image"
    assert client.containers.run(PREFIX + "built:1", ["cat", "/a"], remove=True) == b"b\n"
    assert image.tag(PREFIX + "other", "2") and image.history()
    assert [found.id for found in client.images.list(name=PREFIX + "other")] == [image.id]
    assert PREFIX + "built:1" in client.images.get(image.id).tags
    saved = b"".join(image.save(named=True))
    client.images.remove(PREFIX + "built:1")
    client.images.remove(image.id, force=True)
    fails(ImageNotFound, 404, client.images.get, image.id)
    loaded = client.images.load(saved)
    assert [found.id for found in loaded] == [image.id]
    client.images.remove(image.id, force=True)
    client.images.prune(filters={"label": ["py=none"]})


def networks():
    network = client.networks.create(PREFIX + "net", driver="bridge", labels={"py": "1"}, check_duplicate=True)
    assert [found.id for found in client.networks.list(names=[PREFIX + "net"])] == [network.id]
    one = client.containers.run("busybox", ["sleep", "1000"], name=PREFIX + "in", detach=True, network=PREFIX + "net")
    two = client.containers.create("busybox", ["ping", "-c", "1", "first"], name=PREFIX + "ping", network=PREFIX + "net")
    network.disconnect(one)
    network.connect(one, aliases=["first"])
    network.reload()
    assert [found.id for found in network.containers] == [one.id]
    two.start()
    assert two.wait()["StatusCode"] == 0, two.logs()
    fails(APIError, 403, network.remove)
    one.remove(force=True)
    two.remove(force=True)
    network.remove()
    fails(NotFound, 404, client.networks.get, network.id)
    client.networks.prune(filters={"label": ["py=none"]})


def volumes():
    volume = client.volumes.create(PREFIX + "volume", labels={"py": "1"})
    assert [found.name for found in client.volumes.list(filters={"label": "py=1"})] == [volume.name]
    mount = [Mount("/data", PREFIX + "volume")]
    client.containers.run("busybox", ["sh", "-c", "echo kept >/data/file"], mounts=mount, remove=True)
    bind = {PREFIX + "volume": {"bind": "/x", "mode": "ro"}}
    assert client.containers.run("busybox", ["cat", "/x/file"], volumes=bind, remove=True) == b"kept\n"
    holder = client.containers.create("busybox", name=PREFIX + "holder", mounts=mount)
    fails(APIError, 409, volume.remove)
    holder.remove()
    volume.remove()
    fails(NotFound, 404, client.volumes.get, volume.name)
    client.volumes.prune(filters={"label": ["py=none"]})


def events():
    seen = []
    stream = client.events(decode=True, filters={"label": "py=event"})

    def follow():
        for event in stream:
            seen.append((event["Type"], event["Action"]))
            if event["Action"] == "destroy":
                break

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    client.containers.run("busybox", ["true"], labels={"py": "event"}, remove=True)
    follower.join(30)
    actions = [action for kind, action in seen if kind == "container"]
    assert [action for action in actions if action in ("create", "start", "die", "destroy")] == \
        ["create", "start", "die", "destroy"], seen
    stream.close()


def system():
    assert client.ping() and client.version()["ApiVersion"]
    info = client.info()
    assert info["Containers"] >= 0 and info["NCPU"] > 0 and info["MemTotal"] > 0
    usage = client.df()
    assert usage["Images"] and "Volumes" in usage and "Containers" in usage
    assert docker.DockerClient(base_url=os.environ["DOCKER_HOST"], version="1.30").containers.list() is not None
    pool = [threading.Thread(target=lambda: client.containers.list(all=True)) for _ in range(10)]
    [thread.start() for thread in pool]
    [thread.join() for thread in pool]
    client.containers.prune(filters={"label": ["py=none"]})


def clean():
    for container in client.containers.list(all=True, filters={"name": PREFIX}):
        container.remove(force=True)
    for kind in (client.networks, client.volumes):
        for left in kind.list():
            if left.name.startswith(PREFIX):
                left.remove()


if __name__ == "__main__":
    wanted = sys.argv[1:]
    try:
        for part in (system, containers, attach, images, networks, volumes, events):
            if not wanted or part.__name__ in wanted:
                part()
                print(part.__name__, "ok", flush=True)
    finally:
        clean()
