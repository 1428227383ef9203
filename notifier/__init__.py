"""notifier: one POST, or one queued message, reaches every session of the users it is meant for.

Three walks lead through the whole service. Each step names its file.

A POST to a screen:

    ingress/middleware.py       the request gets its id, its log line, and is held against its address' limit
    ingress/http.py             HttpDoor.notify: who calls (access/gate.py), how often (access/limits.py)
    ingress/schemas.py          what: read strictly, held against the rules, put into the words of the core
    core/pipeline.py            send_notification: sealed once (core/notification.py), appended to the journal
    journal/memory.py           the journal has it: 202. A keyed request waits until it is read back
    journal/rabbitmq.py         the same in a stream that every replica reads: items gathered into a record (appends.py,
                                record.py), published (publisher.py), followed (follower.py, stream.py), and known to be
                                the same stream (epochs.py)
    core/pipeline.py            follow_journal: every record comes back here, on every replica, also its own
    core/idempotency.py         a second item with a key that was seen is dropped, everywhere alike
    core/window.py              what can be replayed is held
    core/hub.py                 deliver: from addresses to sessions (index.py), a frame for all (transports/frames.py)
    core/delivery.py            owe, go: written at once, or soon and joined with what comes meanwhile
    core/session.py             offer: the outlet takes it, or the session falls behind
    transports/detached.py      the bytes leave (outlet.py: the same under another ASGI server)

A message of the request queue, to an acknowledgement:

    broker/topology.py          what has to be there is declared or checked, on a connection (broker/connection.py)
    ingress/amqp.py             QueueDoor: takes what is there, in its order
    ingress/requests.py         who sends (the broker has checked), and what: the rules of the HTTP door
    core/pipeline.py            append_batch: as above; acknowledged when the journal has it
    ingress/letters.py          what cannot be sent becomes a dead letter first (commands/dead_letters.py looks at them)

A session, from connect to close:

    transports/http_protocol.py the head is held to more rules than the parser has
    transports/socket_protocol.py  the request becomes a scope
    transports/websocket.py     serve: what the client brings (handshake.py) is checked and admitted (reception.py,
                                access/gate.py); sse.py: the same for a stream of events
    access/tokens.py            from the token to an Identity; access/topics.py from wanted topics to granted ones
    core/pipeline.py            has_read: a client that is ahead of this replica waits for it
    core/hub.py                 register: from here on, live deliveries and the replay join without a gap
    core/replay.py              a client with a position is a cursor into the window until it reaches the tail
    transports/detached.py      the connection has left ASGI: what it writes, what it hears (incoming.py); stream.py: a
                                stream, which hears nothing
    transports/conversation.py  subscribe, unsubscribe, refresh, ping
    core/pulse.py               heartbeats with the position; the end of its token; a client that takes nothing more
    core/outage.py              degraded, when the journal is away; restored
    core/canary.py              a notification to ourselves, to see that all of this works
    core/drain.py               reconnect, a little later, elsewhere
    transports/closing.py       the close code says whether to come back

A revocation, to the sessions that it ends:

    ingress/revocations.py      RevocationDoor: who may (access/gate.py), and what
    access/revoker.py           revoke: it becomes a control record ...
    core/control.py             ... that is told to every replica, and read by whoever knows its kind
    journal/control.py          by way of a stream (publisher.py, follower.py), or in memory
    access/revocations.py       what holds; the gate asks at each token, and again when a session begins
    access/revoker.py           the sessions are closed, in stretches

`app.py` introduces the parts to each other (`public.py`: what stands at the public port; `trust.py`, `engine.py`,
`counts.py` and `revoking.py` make keys, brokers and limits ready), `server.py` runs them, `cli.py` and `commands/` are
the command.
"""
