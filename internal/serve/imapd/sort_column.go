package imapd

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// sortColumn is one sort key of all messages that are sorted: numbers, or texts in
// the form in which they compare, one after another in one buffer.
type sortColumn struct {
	by      imap.SortBy
	numbers []int64
	texts   []sortText
	buffer  []byte
	limit   int // bytes of a text that count

	comparator imap.Comparator
}

// sortText is where a message's text lies, and its first bytes, which decide most
// comparisons.
type sortText struct {
	head     uint64
	from, to uint32
}

// maxSortText is how many bytes of texts are compared of one message, shared evenly
// among the keys that are texts: it bounds what a mailbox of giant subjects costs to
// sort. The folded form may be a few times as long if it is of rare characters.
const maxSortText = 512

// newSortColumns returns a column for each criterion, for n messages.
func newSortColumns(by []imap.SortBy, n int, comparator imap.Comparator) []*sortColumn {
	columns := make([]*sortColumn, len(by))
	texts := 0
	for i := range by {
		columns[i] = &sortColumn{by: by[i], comparator: comparator}
		switch by[i].Key {
		case imap.SortArrival, imap.SortDate, imap.SortSize, imap.SortRelevancy:
			columns[i].numbers = make([]int64, n)
		default:
			columns[i].texts, columns[i].buffer = make([]sortText, n), make([]byte, 0, 16*n)
			texts++
		}
	}
	for _, c := range columns {
		c.limit = maxSortText / max(texts, 1)
	}
	return columns
}

// needsKeys tells whether more than the rows is needed.
func (c *sortColumn) needsKeys() bool {
	return c.texts != nil && c.by.Key != imap.SortAnnotation || c.by.Key == imap.SortDate
}

// fillFromRow fills in what the row of the i-th message says.
func (c *sortColumn) fillFromRow(i int, m *store.Message, scores map[mail.UID]uint8) {
	switch {
	case c.numbers == nil:
	case c.by.Key == imap.SortRelevancy: // the best first
		c.numbers[i] = -int64(scores[m.UID])
	default:
		c.numbers[i] = c.ofRow(m)
	}
}

// ofRow returns what a row says of a column of numbers; for a date it stands if there is
// no other (RFC 5256, 2.2).
func (c *sortColumn) ofRow(m *store.Message) int64 {
	if c.by.Key == imap.SortSize {
		return m.Size
	}
	return m.Internal
}

// grow makes room for a message more and fills in what its row says.
func (c *sortColumn) grow(m *store.Message) {
	if c.texts != nil {
		c.texts = append(c.texts, sortText{})
		return
	}
	c.numbers = append(c.numbers, c.ofRow(m))
}

// fill fills in what the keys of the i-th message say.
func (c *sortColumn) fill(i int, k *store.Keys) {
	switch c.by.Key {
	case imap.SortDate:
		if k.Dated {
			c.numbers[i] = k.Date
		}
	case imap.SortSubject:
		c.text(i, k.Base)
	case imap.SortFrom:
		c.text(i, k.From)
	case imap.SortTo:
		c.text(i, k.To)
	case imap.SortCc:
		c.text(i, k.Cc)
	case imap.SortDisplayFrom:
		c.text(i, k.DisplayFrom)
	case imap.SortDisplayTo:
		c.text(i, k.DisplayTo)
	}
}

func (c *sortColumn) text(i int, b []byte) {
	from := len(c.buffer)
	c.buffer = c.comparator.AppendFold(c.buffer, b[:min(len(b), c.limit)])
	var head [8]byte
	copy(head[:], c.buffer[from:])
	c.texts[i] = sortText{binary.BigEndian.Uint64(head[:]), uint32(from), uint32(len(c.buffer))}
}

// compare orders two messages by this key alone.
func (c *sortColumn) compare(a, b int32) int {
	if c.by.Reverse {
		a, b = b, a
	}
	if c.numbers != nil {
		return cmp.Compare(c.numbers[a], c.numbers[b])
	}
	x, y := c.texts[a], c.texts[b]
	if x.head != y.head {
		return cmp.Compare(x.head, y.head)
	}
	return bytes.Compare(c.buffer[x.from:x.to], c.buffer[y.from:y.to])
}

// leading is a message with the beginning of its first key, which decides most comparisons
// where the message itself need not be looked at.
type leading struct {
	head uint64
	row  int32
}

// sortColumns returns the rows in order.
func sortColumns(columns []*sortColumn, n int) []leading {
	order := make([]leading, n)
	for i := range order {
		order[i] = leading{columns[0].head(i), int32(i)}
	}
	slices.SortFunc(order, func(a, b leading) int {
		if a.head != b.head {
			return cmp.Compare(a.head, b.head)
		}
		for _, c := range columns {
			if d := c.compare(a.row, b.row); d != 0 {
				return d
			}
		}
		return cmp.Compare(a.row, b.row)
	})
	return order
}

// head returns a number that orders messages as this key does, or makes them equal.
func (c *sortColumn) head(i int) uint64 {
	var h uint64
	if c.numbers != nil {
		h = uint64(c.numbers[i]) ^ 1<<63
	} else {
		h = c.texts[i].head
	}
	if c.by.Reverse {
		h = ^h
	}
	return h
}
