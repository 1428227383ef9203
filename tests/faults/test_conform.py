"""The protocol as clients meet it: each connection on another replica, behind a load balancer that knows nothing."""

from pathlib import Path

from notifier.clients.conform.run import CHECKS
from tests.faults.cluster import Cluster
from tests.nginx import CONFIGURATION, nginx
from tests.service.command import run

ONE = "server 127.0.0.1:{upstream_port};"


async def test_three_replicas_keep_the_rules_of_one(direct_cluster: Cluster, tmp_path: Path) -> None:
    """Also where a client resumes at another replica than it left, and where a repeated key comes to another."""
    in_turn = " ".join(f"server 127.0.0.1:{place.port};" for place in direct_cluster.places)
    quick = [argument for check in CHECKS if not check.is_slow for argument in ("--only", check.name)]

    with nginx(direct_cluster.places[0].port, tmp_path, template=CONFIGURATION.replace(ONE, in_turn)) as port:
        url = f"http://127.0.0.1:{port}"
        ended = await run("conform", "--insecure-development", "--url", url, "--origin", url, *quick)

    assert [line for line in ended.lines if line.startswith("FAILED")] == []
    assert ended.code == 0, ended.err
