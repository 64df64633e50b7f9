package pebble

import (
	"bytes"
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

// TestTurnBack turns one bit over and has it found; two or three are never taken for one.
func TestTurnBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for trial := range 300 {
		want := make([]byte, 1+rng.IntN(3000))
		for i := range want {
			want[i] = byte(rng.Uint32())
		}
		f := extent{size: int64(len(want)), sum: crc32.Checksum(want, castagnoli)}
		hurt := bytes.Clone(want)
		hurt[rng.IntN(len(hurt))] ^= 1 << rng.IntN(8)
		if got := turnBack(hurt, f); !bytes.Equal(got, want) {
			t.Fatalf("trial %d: one bit was not found in %d bytes", trial, len(want))
		}
		for range 1 + rng.IntN(2) {
			hurt[rng.IntN(len(hurt))] ^= 1 << rng.IntN(8)
		}
		if got := turnBack(hurt, f); got != nil && !bytes.Equal(got, want) {
			t.Fatalf("trial %d: more than one bit was taken for one", trial)
		}
	}
}
