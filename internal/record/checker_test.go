package record

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
)

func partKey(of byte, n uint64) []byte { return binary.BigEndian.AppendUint64([]byte{'y', of}, n) }

// TestChecker turns over each bit of records that lie in one value and in parts, and takes
// parts away.
func TestChecker(t *testing.T) {
	type kv struct{ key, value []byte }
	list := []kv{{[]byte("a"), Seal(1, []byte("one"))}, {[]byte("b"), []byte("bare")}}
	for _, of := range []byte{1, 2} {
		whole := Seal(of, bytes.Repeat([]byte{of}, 9))
		for n, part := range [][]byte{whole[:5], whole[5:12], whole[12:13], whole[13:]} {
			list = append(list, kv{partKey(of, uint64(n)), part})
		}
	}
	list = append(list, kv{[]byte("z"), Seal(2, nil)})
	check := func(list []kv) (spoilt []string) {
		c := Checker{
			Sealing: func(key, _ []byte) Sealing { return map[byte]Sealing{'b': Bare, 'y': Part}[key[0]] },
			Spoilt:  func(key []byte) { spoilt = append(spoilt, string(key)) },
		}
		for _, r := range list {
			c.Add(r.key, r.value)
		}
		c.End()
		return spoilt
	}
	if got := check(list); len(got) > 0 {
		t.Fatalf("%q are said to be damaged", got)
	}
	for i, r := range list {
		want := string(r.key)
		if r.key[0] == 'y' {
			want = string(partKey(r.key[1], 0))
		}
		for bit := range 8 * len(r.value) {
			hurt := slices.Clone(list)
			hurt[i].value = bytes.Clone(r.value)
			hurt[i].value[bit/8] ^= 1 << (bit % 8)
			if got := check(hurt); r.key[0] != 'b' && !slices.Equal(got, []string{want}) || r.key[0] == 'b' && len(got) > 0 {
				t.Errorf("bit %d of %q: %q are said to be damaged", bit, r.key, got)
			}
		}
		if got := check(slices.Delete(slices.Clone(list), i, i+1)); r.key[0] == 'y' && len(got) != 1 {
			t.Errorf("without %q: %q are said to be damaged", r.key, got)
		}
	}
}
