package receive

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkSigned is the part of a delivery that signing adds to it: a message of 8 KB that
// stays here.
func BenchmarkSigned(b *testing.B) {
	s := &signing{world: newWorld(b)}
	s.Receiver.opt.Signers = s.dir
	env := submitted("alice@here.test", "bob@here.test")
	msg := s.parcel(strings.Replace(letterFrom("alice@here.test"), "body\r\n", strings.Repeat("The quick brown fox jumps over the lazy dog, and it does so all day long.\r\n", 105), 1))
	p := s.way(b.Context(), env, msg, findings{})
	b.ReportAllocs()
	for b.Loop() {
		if got, err := s.signed(b.Context(), &env, p, msg, false); err != nil || got == msg {
			b.Fatal("not signed", err)
		}
	}
}

// BenchmarkDeliver is a whole delivery, but for the disk and the wire.
func BenchmarkDeliver(b *testing.B) {
	for name, signers := range map[string]bool{"signed": true, "unsigned": false} {
		b.Run(name, func(b *testing.B) {
			s := &signing{world: newWorld(b)}
			if signers {
				s.Receiver.opt.Signers = s.dir
			}
			env := submitted("alice@here.test", "bob@here.test")
			body := strings.Repeat("The quick brown fox jumps over the lazy dog, and it does so all day long.\r\n", 105)
			text := strings.Replace(letterFrom("alice@here.test"), "body\r\n", body, 1)
			_, _ = s.dir.Signers(b.Context(), "here.test")
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n++
				msg := s.parcel(strings.Replace(text, "id 1", fmt.Sprint("id ", n), 1))
				if r := s.Deliver(b.Context(), env, msg); r[0].Err != nil {
					b.Fatal(r)
				}
			}
		})
	}
}
