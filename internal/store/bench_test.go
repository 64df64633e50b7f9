package store

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// short returns the n-th of messages of 1.4 KB.
func short(n int) []byte {
	return fmt.Appendf(nil, "From: \"Brown, Bob\" <bob.brown@example.com>\r\nTo: Reader <reader@example.net>\r\n"+
		"Subject: Note %d on the harbour\r\nDate: Mon, 01 Jan 2024 08:00:00 +0000\r\nMessage-ID: <large.%d@bench.example>\r\n"+
		"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n%s", n, n,
		strings.Repeat("words of all kinds in lines of a usual length, one after the other\r\n", 16))
}

func BenchmarkReceive(b *testing.B) {
	w := newWorld(b)
	message := short(1)
	b.ReportAllocs()
	for b.Loop() {
		p, err := w.Receive(ctx, bytes.NewReader(message))
		if err != nil {
			b.Fatal(err)
		}
		p.records()
	}
}

// BenchmarkAppend100 is of messages in commits of 100.
func BenchmarkAppend100(b *testing.B) {
	w := newWorld(b)
	inbox := w.box(b, "INBOX").ID
	var list []*Parcel
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		if n%100 == 0 {
			b.StopTimer()
			list = list[:0]
			for i := range 100 {
				list = append(list, w.receive(b, string(short(n+i))))
				list[i].records()
			}
			b.StartTimer()
			w.update(b, func(tx *Tx) error {
				for _, p := range list {
					if _, err := tx.Append(inbox, NewMessage{Parcel: p}); err != nil {
						return err
					}
				}
				return nil
			})
		}
		n++
	}
}
