package mime

import (
	"os"
	"strings"
	"testing"
)

func BenchmarkParse(b *testing.B) {
	mixed, err := os.ReadFile("testdata/attachment.eml")
	if err != nil {
		b.Fatal(err)
	}
	plain := "From: a@b\r\nTo: c@d\r\nSubject: x\r\nDate: Fri, 3 Jul 2026 09:15:00 +0200\r\nMessage-ID: <x@y>\r\n\r\n"
	for _, c := range []struct{ name, in string }{
		{"8KB", plain + strings.Repeat("some words that make up a line of text\r\n", 200)},
		{"parts", string(mixed)},
		{"25MB", plain + strings.Repeat(strings.Repeat("QUJD", 19)+"\r\n", 25<<20/78)},
	} {
		b.Run(c.name, func(b *testing.B) {
			in := []byte(c.in)
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			for b.Loop() {
				p := NewParser(Limits{})
				p.Write(in)
				p.Finish()
			}
		})
	}
}

func BenchmarkAppendBinary(b *testing.B) {
	in, err := os.ReadFile("testdata/attachment.eml")
	if err != nil {
		b.Fatal(err)
	}
	root := parse(string(in), Limits{}).Root
	b.ReportAllocs()
	for b.Loop() {
		root.AppendBinary(nil)
	}
}

func BenchmarkFilterHeader(b *testing.B) {
	h := []byte(strings.Repeat("X-Something: "+strings.Repeat("v", 60)+"\r\n", 30) + "Subject: x\r\nFrom: y\r\n\r\n")
	fields := []string{"From", "To", "Cc", "Subject", "Date", "Message-ID"}
	b.ReportAllocs()
	for b.Loop() {
		FilterHeader(h, fields, false)
	}
}
