package bench

import (
	"encoding/base64"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"time"
)

// corpus makes ordinary mail, as a person with an office job and a few newsletters
// gets it. Of 100 messages
//
//	32  are newsletters: text and HTML of 20 to 90 KB, built on the sender's template,
//	    with a link that is only this reader's in each article
//	22  are notices of shops, forums and machines: text and HTML of 4 to 14 KB
//	28  are letters of people: a new text above what it answers, half of them with
//	    HTML, a third of those with the sender's logo, the same each time
//	 6  come from mailing lists: text, quotes and patches
//	 2  are invitations to meetings
//	10  have a file: 120 KB in the median, 400 KB in the mean, 6 MB at most. Of 20
//	    files 8 are PDF, 4 photographs, 4 documents that are ZIP inside, 2 drawings
//	    (PNG), 1 is a table as text and 1 an archive. One in seven is a file that an
//	    earlier message had, as in replies and forwards.
//
// A third of the mail is German, the rest English. All have the header fields that
// three hosts, two signatures and a spam filter leave, 3 KB. A message has 60 KB in the
// mean. Two thirds of all bytes are files, a quarter newsletters; in files nothing but
// tables, and some hundredths of a PDF, can be compressed once base64 is undone. Text
// compresses as English and German do: DEFLATE makes 0.46 of 2 KB and 0.39 of 8 KB. Every message differs from every other but for logos, templates and
// the files that are sent again.
type corpus struct {
	seed string
	id   uint64
	lang [2]*lexicon
}

func newCorpus(seed string) *corpus {
	h := fnv.New64a()
	h.Write([]byte(seed))
	return &corpus{seed: seed, id: h.Sum64(), lang: [2]*lexicon{english(), german()}}
}

// sort is a kind of message.
type sort struct {
	weight int // of 100 messages
	write  func(*letter)
}

func sorts() []sort {
	return []sort{{32, newsletter}, {22, notice}, {28, reply}, {6, listMail}, {2, invitation}, {10, withFile}}
}

// stride spreads the kinds over each hundred of messages; it has no divisor in common
// with 100.
const stride = 37

// letter is one message that is being written.
type letter struct {
	*corpus
	writing
	n      int
	rnd    *rand.Rand
	sender sender
	date   time.Time
	file   int // number of messages with files before this one
}

// append appends the n-th message to b, in CRLF form; no line begins with a dot.
func (c *corpus) append(b []byte, n int) []byte {
	slot := n * stride % 100
	m := &letter{corpus: c, n: n, writing: writing{b: b}, rnd: c.dice("message", n)}
	m.date = epoch.Add(time.Duration(n)*11*time.Minute + time.Duration(m.rnd.IntN(600))*time.Second)
	for _, s := range sorts() {
		if slot < s.weight {
			m.file = n/100*s.weight + slot
			s.write(m)
			break
		}
		slot -= s.weight
	}
	return m.b
}

// dice returns the source of chance for one thing.
func (c *corpus) dice(what string, n int) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(what))
	return rand.New(rand.NewPCG(c.id, h.Sum64()+uint64(n)*0x9e3779b97f4a7c15))
}

// sender is somebody who writes often.
type sender struct {
	no       int
	name     string
	host     string
	lexicon  *lexicon
	hasLogo  bool
	template *rand.Rand // starts anew for each message, so that it always draws the same
}

// from takes one of so many senders of a kind; some write far more than others.
func (m *letter) from(kind string, of int) sender {
	share := m.rnd.Float64()
	no := int(share * share * float64(of))
	s := sender{no: no, template: m.dice("sender "+kind, no)}
	s.lexicon = m.lang[0]
	if no%3 == 1 {
		s.lexicon = m.lang[1]
	}
	w := s.lexicon
	s.name = w.given(s.template) + " " + w.family(s.template)
	s.host = w.domain(s.template)
	s.hasLogo = no%3 == 0
	m.sender = s
	return s
}

// between returns a number from low to high; small ones come more often.
func between(r *rand.Rand, low, high int) int {
	f := r.Float64()
	return low + int(f*f*float64(high-low))
}

// skewed returns a number with the median, of which a few are far larger: a lognormal
// distribution, cut off at most.
func skewed(r *rand.Rand, median, sigma float64, most int) int {
	return min(int(median*math.Exp(sigma*r.NormFloat64())), most)
}

// writing is text that grows.
type writing struct{ b []byte }

func (w *writing) put(parts ...string) {
	for _, p := range parts {
		w.b = append(w.b, p...)
	}
}

func (w *writing) putf(format string, args ...any) { w.b = fmt.Appendf(w.b, format, args...) }

// base64 writes bytes in lines of 76 (RFC 2045, 6.8).
func (w *writing) base64(p []byte) {
	for len(p) > 0 {
		n := min(len(p), 57)
		w.b = base64.StdEncoding.AppendEncode(w.b, p[:n])
		w.b = append(w.b, "\r\n"...)
		p = p[n:]
	}
}

// quotedPrintable writes text with bare line feeds (RFC 2045, 6.7). A dot at the
// beginning of a line is written as its number, too.
func (w *writing) quotedPrintable(text []byte) {
	const digits, width = "0123456789ABCDEF", 75
	col := 0
	for i, c := range text {
		if c == '\n' {
			w.b = append(w.b, "\r\n"...)
			col = 0
			continue
		}
		trailing := c == ' ' && (i+1 == len(text) || text[i+1] == '\n')
		plain := c >= ' ' && c < 0x7f && c != '=' && !trailing && !(c == '.' && (col == 0 || col >= width-1))
		size := 3
		if plain {
			size = 1
		}
		if col+size > width {
			w.b = append(w.b, "=\r\n"...)
			col = 0
		}
		if plain {
			w.b = append(w.b, c)
		} else {
			w.b = append(w.b, '=', digits[c>>4], digits[c&15])
		}
		col += size
	}
	w.b = append(w.b, "\r\n"...)
}

// random appends n bytes that do not compress.
func random(b []byte, r *rand.Rand, n int) []byte {
	for ; n >= 8; n -= 8 {
		v := r.Uint64()
		b = append(b, byte(v), byte(v>>8), byte(v>>16), byte(v>>24), byte(v>>32), byte(v>>40), byte(v>>48), byte(v>>56))
	}
	for ; n > 0; n-- {
		b = append(b, byte(r.Uint32()))
	}
	return b
}

// token returns n letters and digits as they stand in links and identifiers.
func token(r *rand.Rand, n int) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[r.IntN(len(alphabet))]
	}
	return string(b)
}

// hex returns n hexadecimal digits.
func hex(r *rand.Rand, n int) string {
	const alphabet = "0123456789abcdef"
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[r.IntN(16)]
	}
	return string(b)
}

// signature returns what signs a message, folded.
func signature(r *rand.Rand) string {
	var w writing
	raw := base64.StdEncoding.EncodeToString(random(nil, r, 256))
	for len(raw) > 68 {
		w.put(raw[:68], "\r\n         ")
		raw = raw[68:]
	}
	w.put(raw)
	return string(w.b)
}
