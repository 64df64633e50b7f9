package imapd

import (
	"slices"
	"strings"
	"unicode"

	"github.com/martlet-mail/martlet/internal/syntax/imap"
)

// Fuzzy search (RFC 6203). A text in FUZZY matches also where its words stand apart,
// in another order, or half of them at least. Dates, sizes, flags and sets match as
// they always do. What FUZZY says of a message is how well its texts match:
//
//	100 the text as it stands, 90 all its words, less with fewer of them;
//	and of TEXT 60 and 50 if they are only in the body.

// word is one word of a text that is looked for loosely.
type word struct {
	text   string
	needle int // of BODY and TEXT: which of the search's needles
}

// maxWords is how many words of one text are looked for; the rest are passed over.
const maxWords = 20

// usesFuzzy tells whether a program has FUZZY in it.
func usesFuzzy(k *imap.SearchKey) bool {
	return k.Op == imap.SearchFuzzy || slices.ContainsFunc(k.Keys, func(k imap.SearchKey) bool { return usesFuzzy(&k) })
}

// loosen splits the text of a condition into words.
func (q *search) loosen(c *cond) {
	if c.text == "" {
		return
	}
	inWord := func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) }
	for _, text := range strings.FieldsFunc(c.text, inWord) {
		if len(c.words) == maxWords {
			break
		}
		w := word{text: text}
		if c.op == imap.SearchBody || c.op == imap.SearchText {
			w.needle = q.need(text)
		}
		c.words = append(c.words, w)
	}
}

// askLoosely says whether a message matches. One whose header matches is looked at no
// further if its body could not make it match better.
func (c *cond) askLoosely(m *candidate) verdict {
	score := c.score(m)
	if (c.op == imap.SearchBody || c.op == imap.SearchText) && m.texts == nil && score < 100 {
		return open
	}
	return verdictOf(score > 0)
}

// score says how well the text matches what has been read of a message: 0 is not at
// all.
func (c *cond) score(m *candidate) int {
	if m.header == nil {
		return 0
	}
	switch c.op {
	case imap.SearchHeader:
		return c.rate(100, 90, func(text string, _ int) bool { return m.header.has(c.field, text) })
	case imap.SearchAddress:
		return c.rate(100, 90, func(text string, _ int) bool {
			return m.header.has(c.field, text) || m.header.addressed(c.field, text)
		})
	}
	inBody := func(_ string, needle int) bool { return m.texts != nil && m.texts[needle] }
	if c.op == imap.SearchBody {
		return c.rate(100, 90, inBody)
	}
	inHeader := c.rate(100, 90, func(text string, _ int) bool { return m.header.contains(text) })
	return max(inHeader, c.rate(60, 50, inBody))
}

// rate gives points for the whole text or for its words.
func (c *cond) rate(whole, words int, has func(text string, needle int) bool) int {
	if has(c.text, c.needle) {
		return whole
	}
	there := 0
	for _, w := range c.words {
		if has(w.text, w.needle) {
			there++
		}
	}
	if 2*there < len(c.words) {
		return 0
	}
	return words * there / len(c.words)
}

// relevancy returns the score of a message that matches, from 1 to 100.
func (c *cond) relevancy(m *candidate) uint8 {
	score, rated := c.rated(m)
	if !rated {
		return 100 // no text had to match loosely
	}
	return uint8(min(max(score, 1), 100))
}

// rated returns the average of what all loose conditions say, or of alternatives the
// best.
func (c *cond) rated(m *candidate) (score int, ok bool) {
	if len(c.words) > 0 {
		return c.score(m), true
	}
	sum, n, best := 0, 0, 0
	for i := range c.kids {
		if s, rated := c.kids[i].rated(m); rated {
			sum += s
			n++
			best = max(best, s)
		}
	}
	switch {
	case n == 0 || c.op == imap.SearchNot:
		return 0, false
	case c.op == imap.SearchOr:
		return best, true
	}
	return sum / n, true
}
