package store

import (
	"crypto/sha256"
	"strings"
	"testing"
)

// The digest of a body is the same however it is kept, and after the queue has kept it.
func TestDigest(t *testing.T) {
	s := newWorld(t)
	for name, body := range map[string]string{"none": "", "plain": "a line\r\n", "compressed": strings.Repeat("a line\r\n", 1000), "a blob": strings.Repeat("a line\r\n", 100_000)} {
		p, err := s.Receive(t.Context(), strings.NewReader("Subject: x\r\n\r\n"+body))
		if err != nil {
			t.Fatal(err)
		}
		again, err := s.DecodeParcel(t.Context(), p.Encode())
		if err != nil {
			t.Fatal(err)
		}
		want := sha256.Sum256([]byte(body))
		if body == "" {
			want = [32]byte{}
		}
		for i, q := range []*Parcel{p, p.Prepend([]byte("X: 1\r\n")), again} {
			if q.Digest() != want {
				t.Errorf("%s, %d: another digest", name, i)
			}
		}
	}
}
