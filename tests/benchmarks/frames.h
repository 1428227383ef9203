/* frames: finds where WebSocket frames end (RFC 6455, 5.2), however the network cut or joined them. */
#include <stdint.h>

struct frames {
    unsigned char header[10];
    int header_bytes;       /* Of the frame that is arriving; 0 between two frames. */
    uint64_t payload_bytes; /* Still to come of it. */
};

static int frame_header_size(const struct frames *frames) {
    if (frames->header_bytes < 2) return 2;
    switch (frames->header[1] & 0x7f) {
    case 126: return 4;
    case 127: return 10;
    default: return 2;
    }
}

static uint64_t frame_payload_size(const struct frames *frames) {
    int size = frame_header_size(frames);
    uint64_t value = size == 2 ? frames->header[1] & 0x7f : 0;
    for (int i = 2; i < size; i++) value = value << 8 | frames->header[i];
    return value;
}

/* Whether the frame ends a message with data: not a ping or a pong, nor one that another one continues. */
static bool frame_ends_message(const struct frames *frames) {
    return (frames->header[0] & 0x80) && (frames->header[0] & 0x0f) < 8;
}

/* Take what arrived. Returns how many messages ended in it. */
static int frames_take(struct frames *frames, const char *data, size_t size) {
    int ended = 0;
    while (size) {
        int expects = frame_header_size(frames);
        if (frames->header_bytes < expects) {
            frames->header[frames->header_bytes++] = *data++;
            size--;
            if (frames->header_bytes < frame_header_size(frames)) continue;
            if (frames->header[1] & 0x80) fail("the server masked a frame");
            if ((frames->header[0] & 0x0f) == 8) fail("the server said that it closes a session");
            frames->payload_bytes = frame_payload_size(frames);
        }
        size_t taken = frames->payload_bytes < size ? frames->payload_bytes : size;
        data += taken;
        size -= taken;
        frames->payload_bytes -= taken;
        if (frames->payload_bytes) continue;
        ended += frame_ends_message(frames);
        frames->header_bytes = 0;
    }
    return ended;
}
