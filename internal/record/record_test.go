package record

import (
	"bytes"
	"testing"

	"github.com/martlet-mail/martlet/internal/fault"
)

func TestRoundTrip(t *testing.T) {
	var e Enc
	e.U(1 << 60)
	e.I(-5)
	e.Str("a", "")
	e.Bytes([]byte{0, 1})
	e.Bool(true, false)
	e.Raw(9)
	b := Seal(7, e)
	kind, payload, err := Open(b)
	d := Dec{Rest: payload}
	if err != nil || kind != 7 || d.U() != 1<<60 || d.I() != -5 || d.Str() != "a" || d.Str() != "" ||
		!bytes.Equal(d.Bytes(), []byte{0, 1}) || !d.Bool() || d.Bool() || d.End("x") == nil || d.Byte() != 9 || d.End("x") != nil {
		t.Errorf("%v %d %v", payload, kind, err)
	}
	if d.U() != 0 || !fault.Is(d.Err("x"), fault.Corrupt) {
		t.Error("reading past the end is not noticed")
	}
}

func TestEveryFlippedBitIsSeen(t *testing.T) {
	b := Seal(1, []byte("some payload"))
	for i := range len(b) * 8 {
		c := bytes.Clone(b)
		c[i/8] ^= 1 << (i % 8)
		if _, _, err := Open(c); !fault.Is(err, fault.Corrupt) {
			t.Fatalf("bit %d", i)
		}
	}
	for n := range len(b) {
		if _, _, err := Open(b[:n]); err == nil {
			t.Fatalf("cut at %d", n)
		}
	}
}

func FuzzDec(f *testing.F) {
	f.Add([]byte{3, 'a', 'b', 'c', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, uint8(0x1b))
	f.Fuzz(func(t *testing.T, b []byte, what uint8) {
		d := Dec{Rest: b}
		read := 0
		for range 8 {
			switch what % 4 {
			case 0:
				d.U()
			case 1:
				read += len(d.Bytes())
			case 2:
				if n := d.Count(); n > len(b) {
					t.Fatalf("%d items in %d bytes", n, len(b))
				}
			case 3:
				d.I()
			}
			what = what>>2 | what<<6
		}
		if read > len(b) || (d.Err("x") == nil) != (d.End("x") == nil || len(d.Rest) > 0) {
			t.Fatal("inconsistent")
		}
	})
}
