"""Every limit and deadline of the protocol in one place, each with its unit in its name and its reason.

Limits that belong to one room alone (a store's batch, a screen's repaint) stand in that room.
"""

# --- frames and messages ---------------------------------------------------------------------------------------
FRAME_BYTES_MAX = 4 * 1024 * 1024  # a chunk of 1 MiB or a manifest of a thousand updates, with room; far below memory
OPERATION_BYTES_MAX = 480 * 1024  # the longest is a run's start with 1,000 signed ready notes of 420 bytes each
GOSSIP_BYTES_MAX = 512 * 1024  # py-libp2p drops above 1 MiB without a word
TOKEN_CHARACTERS_MAX = 4096  # a token with eight addresses has about 600; more is not a token
NAME_CHARACTERS_MAX = 80  # of a node, group, data set or run: what fits a line

# --- the control plane -----------------------------------------------------------------------------------------
DIAL_DEADLINE_S = 10.0  # a hospital's firewall may swallow packets; ten seconds is longer than any honest handshake
SEND_DEADLINE_S = 10.0  # a peer that takes nothing for so long is frozen or gone
OUTBOX_FRAMES_MAX = 256  # per peer; a peer that is so far behind gets the newest state when it is back
REDIAL_FIRST_S = 0.5  # doubling from here …
REDIAL_LAST_S = 30.0  # … to here: a node that is back is found again within half a minute
ANTI_ENTROPY_S = 30.0  # a lost gossip message is made good within this time
PRESENCE_S = 60.0  # slower as the group grows, so that presence costs the same for all
PING_BYTES = 8  # of a nonce that nobody guesses while the answer is on its way
PRESENCE_STALE_S = 200.0  # three announcements missed
SYNC_OPERATIONS_MAX = 256  # in one answer; more come in further answers

# --- the entrance ----------------------------------------------------------------------------------------------
ENTRANCE_STREAMS_MAX = 8  # at once: joining is rare
ENTRANCE_BYTES_MAX = 4 * 1024 * 1024  # read from one stranger's stream: a long log and nothing more
ENTRANCE_DEADLINE_S = 30.0  # for a whole conversation with a stranger
ENTRANCE_ATTEMPTS_PER_MINUTE = 30  # over all strangers: a flood must not cost more than signature checks
OUTSTANDING_INVITATIONS_MAX = 1000  # per group

# --- blobs -----------------------------------------------------------------------------------------------------
CHUNK_BYTES = 1024 * 1024  # 1 MiB: BLAKE3 at full speed, small enough to refetch
BLOB_BYTES_MAX = 64 * 1024**3  # 16 billion parameters in fp32; the chunk list is then 2 MiB
BLOB_STALL_S = 20.0  # no byte for so long: another source, or give up

# --- groups ----------------------------------------------------------------------------------------------------
GROUP_MEMBERS_MAX = 4096
OPERATION_PARENTS_MAX = 64  # heads at once; concurrent authors beyond that name the rest next time
NODES_PER_MEMBER_MAX = 256  # a laboratory's machines; a member who binds more fills everybody's log
WAITING_OPERATIONS_MAX = 1024  # whose parents are not here yet; what is pushed out comes again with anti-entropy
WAITING_BYTES_MAX = 8 * 1024 * 1024  # of the same: a thousand ordinary ones have about 1 MiB
SYNC_BYTES_MAX = 1024 * 1024  # of operations in one answer: heartbeats behind it wait 0.1 s at 100 Mbit/s
SYNC_HEADS_MAX = 1024  # in one message; the other end pushes what the rest would have asked for
JOIN_LOG_BYTES_MAX = 64 * 1024 * 1024  # that a joiner takes from one admitter: some 60,000 operations
INTRODUCTION_BYTES_MAX = ENTRANCE_BYTES_MAX - 512 * 1024  # of operations; the rest of the budget is for the framing
EPOCH_MAX = 2**32 - 1  # of a group's keys, in steps of …
EPOCH_STEP = 4096  # … this, and within a step by lot: so two rotations at once hardly ever have one epoch
ADDRESSES_MAX = 16  # of one node and kind: every interface of a well-connected machine
ADDRESS_CHARACTERS_MAX = 256  # a relayed address with a DNS name and two peer ids has about 200
ENTRANCES_MAX = 8  # in one invitation: one of eight nodes is up
PRESENCE_BYTES_MAX = 16 * 1024  # 16 + 16 addresses and 64 runs have about 12 KiB

# --- runs ------------------------------------------------------------------------------------------------------
ROSTER_NODES_MAX = 4096  # 2^12: what the fixed-point sum has room for (aggregation.exact_sum)
VOTERS_MAX = 31  # a commit then needs 16 acknowledgements: more voters cost time and add little
NODE_ID_CHARACTERS_MAX = 64  # a libp2p peer id of an Ed25519 key has 52
SIGNED_NOTE_BYTES_MAX = 16 * 1024  # an offer with 64 metrics of the longest names has about 6 KiB
CHECKPOINT_BYTES_MAX = 3 * 1024 * 1024  # 4,096 entries of 600 bytes; fits a frame
OFFERS_BYTES_MAX = (
    CHECKPOINT_BYTES_MAX * 3 // 4
)  # of a round's offers in its checkpoint; roster and notes take the rest
REPORTS_BYTES_MAX = 512 * 1024  # of reports in one commit; the rest goes with the next
CAPACITY_CLASSES = 8

# Of one run, extended or not: years of rounds, and far from where numbers end.
RUN_ROUNDS_MAX = 1_000_000
