package dkim

import (
	"strings"
	"testing"
)

// A message of 8 KB as people write them, and its parts.
var usual = strings.Replace(letter, "\r\n\r\n", "\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nReceived: from x (y)\r\n\tby z with ESMTPSA\r\n\tid 1;\r\n\tSun, 1 Nov 2026 12:00:00 +0000\r\n\r\n", 1) +
	strings.Repeat("The quick brown fox jumps over the lazy dog, and it does so all day long.\r\n", 105)

func BenchmarkSign(b *testing.B) {
	all, _ := keys(b)
	for _, k := range all {
		b.Run(k.Selector, func(b *testing.B) {
			header, open := split(usual)
			b.SetBytes(int64(len(usual)))
			b.ReportAllocs()
			for b.Loop() {
				body, _ := open(b.Context())
				if _, err := Sign(header, body, []Key{k}, SignOptions{Now: then}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	all, z := keys(b)
	for _, k := range all {
		b.Run(k.Selector, func(b *testing.B) {
			header, open := split(signed(b, usual, []Key{k}, SignOptions{}))
			b.ReportAllocs()
			for b.Loop() {
				if r := Verify(b.Context(), z, header, open, VerifyOptions{Now: then}); r[0].Status != Pass {
					b.Fatal(r)
				}
			}
		})
	}
}

// BenchmarkBody is the canonicaliser without a hash.
func BenchmarkBody(b *testing.B) {
	for name, text := range map[string]string{"clean": usual, "spaces": strings.ReplaceAll(usual, " ", "  ")} {
		for _, c := range []Canon{Relaxed, Simple} {
			b.Run(name+"/"+c.String(), func(b *testing.B) {
				p := []byte(text)
				b.SetBytes(int64(len(p)))
				for b.Loop() {
					w := newBody(c, func([]byte) {})
					w.Write(p)
					w.end()
				}
			})
		}
	}
}
