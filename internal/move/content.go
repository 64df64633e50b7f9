package move

import (
	"bytes"
	"crypto/sha256"
	"hash"
)

// headCut is where a header that is longer ends for a Content, as it does in the store.
const headCut = 256 << 10

// Summer makes the Content of the message that is written to it. The zero value is ready.
type Summer struct {
	head []byte
	done bool
	body hash.Hash
	size int64
}

// Write never fails.
func (s *Summer) Write(b []byte) (int, error) {
	s.size += int64(len(b))
	rest := b
	if !s.done {
		had := len(s.head)
		s.head = append(s.head, b...)
		end, found := headEnd(s.head, max(0, had-3))
		if !found && len(s.head) < headCut {
			return len(b), nil
		}
		end = min(end, headCut)
		s.done, rest = true, b[end-had:]
		s.head = s.head[:end]
	}
	if len(rest) > 0 {
		if s.body == nil {
			s.body = sha256.New()
		}
		s.body.Write(rest)
	}
	return len(b), nil
}

// Size returns how many bytes were written.
func (s *Summer) Size() int64 { return s.size }

// Content returns that of all that was written.
func (s *Summer) Content() Content {
	var body [sha256.Size]byte
	if s.body != nil {
		s.body.Sum(body[:0])
	}
	return sha256.Sum256(append(s.head[:len(s.head):len(s.head)], body[:]...))
}

// headEnd finds the end of the first empty line, looking from a place on.
func headEnd(b []byte, from int) (end int, found bool) {
	if from == 0 {
		if bytes.HasPrefix(b, []byte("\r\n")) {
			return 2, true
		}
		if bytes.HasPrefix(b, []byte("\n")) {
			return 1, true
		}
	}
	for i := from; ; {
		k := bytes.IndexByte(b[i:], '\n')
		if k < 0 {
			return len(b), false
		}
		i += k + 1
		if bytes.HasPrefix(b[i:], []byte("\n")) {
			return i + 1, true
		}
		if bytes.HasPrefix(b[i:], []byte("\r\n")) {
			return i + 2, true
		}
	}
}
