package account

import (
	"bytes"
	"crypto/sha256"
	"hash"

	"github.com/martlet-mail/martlet/internal/move"
)

// maxHead is how many bytes of a header are hashed as such; what is beyond counts as body,
// as in the store.
const maxHead = 256 << 10

// Hash makes the move.Content of the bytes that are written to it. The zero value is ready.
type Hash struct {
	head []byte
	body hash.Hash // nil as long as the header has not ended
	tail bool      // there is a body
}

// Write never fails.
func (h *Hash) Write(p []byte) (int, error) {
	n := len(p)
	if h.body == nil {
		from := max(0, len(h.head)-3)
		had := len(h.head)
		h.head = append(h.head, p[:min(len(p), maxHead-had)]...)
		end := headEnd(h.head, from)
		if end < 0 && len(h.head) < maxHead {
			return n, nil
		}
		if end < 0 {
			end = maxHead
		}
		h.head, p = h.head[:end], p[end-had:]
		h.body = sha256.New()
	}
	h.tail = h.tail || len(p) > 0
	h.body.Write(p)
	return n, nil
}

// Sum returns the content of what was written.
func (h *Hash) Sum() move.Content {
	var body [sha256.Size]byte // of a message without one
	if h.tail {
		h.body.Sum(body[:0])
	}
	return sha256.Sum256(append(bytes.Clone(h.head), body[:]...))
}

// headEnd returns where the first empty line ends, looking from a place on, or -1.
func headEnd(b []byte, from int) int {
	if from == 0 {
		switch {
		case bytes.HasPrefix(b, []byte("\r\n")):
			return 2
		case bytes.HasPrefix(b, []byte("\n")):
			return 1
		}
	}
	for i := from; ; i++ {
		k := bytes.IndexByte(b[i:], '\n')
		if k < 0 {
			return -1
		}
		i += k
		switch rest := b[i+1:]; {
		case bytes.HasPrefix(rest, []byte("\n")):
			return i + 2
		case bytes.HasPrefix(rest, []byte("\r\n")):
			return i + 3
		}
	}
}
