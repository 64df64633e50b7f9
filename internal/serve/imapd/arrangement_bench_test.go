package imapd

import (
	"fmt"
	"testing"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// BenchmarkThreads puts messages that are in memory into threads, as THREAD does after a
// delivery.
func BenchmarkThreads(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000, 1_000_000} {
		c := newThreadColumns(membership{n: n}, n, n)
		for i := range n {
			m := threadMessage{date: int64(i), subject: subjectKey{uint64(i / 3), 1}, named: true, id: uint64(i) * 0x9E3779B97F4A7C15, reply: i%3 > 0}
			if i%3 > 0 {
				m.refs = []uint64{uint64(i-i%3) * 0x9E3779B97F4A7C15}
			}
			c.add(mail.UID(i+1), &m)
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				_, msgs := c.messages(nil)
				threads(msgs, imap.References)
			}
			b.ReportMetric(float64(c.bytes())/float64(n), "kept-B/message")
		})
	}
}

// BenchmarkSortColumns sorts subjects that are in memory.
func BenchmarkSortColumns(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000, 1_000_000} {
		columns := newSortColumns([]imap.SortBy{{Key: imap.SortSubject}}, n, imap.UnicodeCasemap)
		for i := range n {
			columns[0].text(i, fmt.Appendf(nil, "Note %d on", uint32(i)*2654435761%uint32(n)))
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				sortColumns(columns, n)
			}
		})
	}
}
