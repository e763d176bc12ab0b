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
# Between two witnesses of one node in a group: who puts admins out and in again cannot make everybody write for ever.
WITNESS_GAP_S = 600.0
ANTI_ENTROPY_S = 30.0  # a lost gossip message is made good within this time
PRESENCE_S = 60.0  # slower as the group grows, so that presence costs the same for all
PING_BYTES = 8  # of a nonce that nobody guesses while the answer is on its way
PRESENCE_STALE_S = 200.0  # three announcements missed
SYNC_OPERATIONS_MAX = 256  # in one answer; more come in further answers

# --- what one peer may take of us ------------------------------------------------------------------------------
# Members' limits lie far above the honest peak: of nodes that train together, in a storm of faults too, none hears more
# than 40 control messages or 256 KiB of them in a second from another. Blobs have no rate: the line is theirs.
PEER_CONNECTIONS_MAX = 24  # from one peer at once; it may dial all of our ADDRESSES_MAX at once, and keeps one of them
PEER_CONNECTIONS_PER_S = 1  # opened by one peer, in the long run: each costs 5 CPU-ms with what is said at once …
PEER_CONNECTIONS_BURST = 120  # … after so many: five times all of our addresses, tried at once
PEER_STREAMS_MAX = 256  # on one connection at once; control, gossip, blobs and questions are about ten
PEER_STREAMS_PER_S = 10  # opened by one peer, in the long run, after …
PEER_STREAMS_BURST = 512  # … so many at once: each costs a negotiation of some CPU-ms
PEER_FRAMES_PER_S = 200  # control messages of one peer, in the long run: beyond it they are read more slowly, after …
PEER_FRAMES_BURST = 4000  # … so many at once: what had piled up while a link was down
PEER_CONTROL_BYTES_PER_S = 32 * 1024 * 1024  # of the same: the longest commit, ten times a second …
PEER_CONTROL_BYTES_BURST = 256 * 1024 * 1024  # … and the longest log, four times over
# Of these, what is not about a run. Each signature in it has to be checked, 350 ns a byte: a fifth of a core at most.
PEER_MEMBERSHIP_BYTES_PER_S = 512 * 1024  # in the long run; of honest nodes it is some KiB, after …
PEER_MEMBERSHIP_BYTES_BURST = 32 * 1024 * 1024  # … so much at once: a log of 70,000 operations
PEER_GOSSIP_PER_S = (
    100  # messages handed on by one peer, its own or others', in the long run; what is more is dropped, …
)
PEER_GOSSIP_BURST = 4000  # … which anti-entropy makes good: the announcements of a large group that starts at once
PEER_GOSSIP_BYTES_PER_S = 4 * 1024 * 1024  # eight of the longest a second, in the long run, after …
PEER_GOSSIP_BYTES_BURST = 64 * 1024 * 1024  # … so many: then the stream is read more slowly
STREAM_WINDOW_BYTES_MAX = 4 * 1024 * 1024  # under way on one stream: 40 MB/s over a round trip of 100 ms
# From one peer, received and not yet read: six streams at their windows' end; an honest one has one or two. It is
# kept in pieces that grow, so a node grows by twice as much at worst.
PEER_UNREAD_BYTES_MAX = 24 * 1024 * 1024
PEER_UNCLAIMED_BYTES_MAX = 256 * 1024 * 1024  # sent to streams that nobody reads (any more), less …
PEER_UNCLAIMED_BYTES_PER_S = 1024 * 1024  # … so much, forgiven: what was under way when we closed a stream
HANDSHAKES_MAX = 128  # inbound at once; a flood must not take our memory
SOURCE_HANDSHAKES_MAX = 32  # of one address, or IPv6 /64: a hospital's nodes behind one address that all start at once
SOURCE_FAILURES_PER_MINUTE = 60  # handshakes of one address that come to nothing: each costs 1 CPU-ms, a name nothing …
SOURCE_FAILURES_PAUSE_S = 1.0  # … so beyond that all of its wait: 32 at once are 32 a second, a thirtieth of a core
HANDSHAKE_DEADLINE_S = 15.0  # from the socket to the muxer: three exchanges, each over the slowest line in 4 s
# --- faults: what a peer does that no honest node does ----------------------------------------------------------
FAULT_SCORE_MAX = 100.0  # at this the peer is hung up on and refused for a while
FAULT_FORGIVEN_PER_S = 0.2  # a lone fault is forgotten after a minute or two
REFUSE_FIRST_S = 60.0  # for so long, doubling with each time from here …
REFUSE_LAST_S = 3600.0  # … to here
REFUSALS_FORGOTTEN_S = 86_400.0  # a day without a fault, and it begins anew
# --- the entrance ----------------------------------------------------------------------------------------------
ENTRANCE_STREAMS_MAX = 16  # conversations at once: joining is rare
ENTRANCE_SOURCE_STREAMS_MAX = 8  # of one address, or IPv6 /64: half, so that nobody alone takes all
ENTRANCE_BYTES_MAX = 4 * 1024 * 1024  # read from one stranger's stream: a long log and nothing more
ENTRANCE_HELD_BYTES_MAX = 4 * ENTRANCE_BYTES_MAX  # from all strangers who are here together: it may lie here unread
ENTRANCE_DEADLINE_S = 30.0  # for a whole conversation with a stranger
ENTRANCE_ATTEMPTS_PER_MINUTE = 120  # over all strangers: a flood must not cost more than signature checks
ENTRANCE_SOURCE_ATTEMPTS_PER_MINUTE = 30  # of one address, or IPv6 /64: a quarter, which leaves room for others
ENTRANCE_PEER_ATTEMPTS_PER_MINUTE = 20  # of one node; one that introduces itself knocks every five seconds
OUTSTANDING_INVITATIONS_MAX = 1000  # per group

# --- blobs -----------------------------------------------------------------------------------------------------
CHUNK_BYTES = 1024 * 1024  # 1 MiB: BLAKE3 at full speed, small enough to refetch
BLOB_BYTES_MAX = 64 * 1024**3  # 16 billion parameters in fp32; the chunk list is then 2 MiB
BLOB_STALL_S = 20.0  # no byte for so long: another source, or give up
# An update that is given while it is coded has so many bytes at least: fewer are coded sooner than they are asked for.
EARLY_BYTES_MIN = 8 * 1024 * 1024
BULK_WAY_DEADLINE_S = 3.0  # to ask for a direct way and come in by it: six round trips, the longest take 0.3 s each
BULK_RETRY_S = (
    300.0  # a direct way that leads nowhere is not tried again for so long: no delay while a firewall blocks it
)
BULK_TOKEN_BYTES = 32
BULK_TOKEN_S = 10.0  # that a token is good for: three times what its peer has to come in
PEER_BULK_TOKENS_MAX = 8  # of one peer, not yet used: who asks so often and does not come cannot come
PEER_BULK_STREAMS_MAX = 16  # of one peer, into us, at once; one asks over one, and has others that end
BULK_STREAMS_MAX = 256  # into us at once, a file descriptor each; who comes later uses what it asked on
# Connections without a token yet, at once: of whoever holds a token for the place that it dials from, and of others,
# who may come from elsewhere. All of the others' places can be taken without harm to the first.
BULK_EXPECTED_MAX, SOURCE_BULK_EXPECTED_MAX = 64, 32
BULK_UNEXPECTED_MAX, SOURCE_BULK_UNEXPECTED_MAX = 16, 4

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
ADDRESS_RECORD_BYTES_MAX = 10 * 1024  # 16 + 16 addresses of the longest have about 8.5 KiB
KNOWN_ADDRESSES_MAX = 64  # records of nodes, given at once: enough to find the rest of the group through
HINTS_MAX = 4  # for one node, heard on the local network: a machine with two cards has two
PRESENCE_BYTES_MAX = 16 * 1024  # 16 + 16 addresses and 64 runs have about 12 KiB

# --- runs ------------------------------------------------------------------------------------------------------
ROSTER_NODES_MAX = 4096  # 2^12: what the fixed-point sum has room for (aggregation.exact_sum)
# Updates in one round of a rule that looks at distances: their N² exact inner products took 130 to 300 MB (measured);
# those of ROSTER_NODES_MAX would take sixteen times as much.
DISTANCE_UPDATES_MAX = 1000
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
