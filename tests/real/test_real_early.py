"""Updates of real nodes travel while they are coded and stored, and every auditor comes to the same. §8.29."""

from datetime import datetime

from nodes import Study

ROUNDS = 4
# 4.3 million parameters, 17 MB in fp32: enough for the codec and the disk to take a moment.
LARGE = 'audit = "full"\n[task]\nname = "digits"\n[task.parameters]\nhidden = [2048, 2048]\n'


def test_upload_begins_before_the_update_is_stored(study: Study) -> None:
    """§8.29. The participant's own spans say so: some of the update had gone before it was durable, let alone
    offered. On a busy machine a round may be too quick for it, but not all of them."""
    run = study.propose(study.nodes[0], ROUNDS, LARGE)
    study.all_end(run)
    assert sorted(study.check_same_commits(run)) == list(range(1, ROUNDS + 1))
    before, uploads = 0, 0
    for node in study.nodes:
        for row in node.client.rounds(run)["rounds"]:
            assert (row["updates_used"], row["updates_refused"]) == (len(study.nodes), [])
        spans = [each for each in node.client.spans(run)["spans"] if each["node_id"] == node.node_id]
        stored = {each["round"]: _begins(each) + each["seconds"] for each in spans if each["name"] == "encode"}
        for each in spans:
            if each["name"] == "upload" and each["peer"]:
                uploads += 1
                before += _begins(each) < stored[each["round"]]
        assert not list((node.home / "blobs" / "early").iterdir()), "nothing stays behind"
    assert uploads >= ROUNDS * (len(study.nodes) - 1)
    assert before >= 1


def _begins(span: dict[str, str]) -> float:
    return datetime.fromisoformat(span["started_at"]).timestamp()
