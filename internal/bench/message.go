package bench

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// Sizes names a distribution of message sizes.
type Sizes string

const (
	Small Sizes = "small" // all of about 1.4 KB
	Mixed Sizes = "mix"   // 2 KB to 400 KB, 13 KB in the mean

	Corpus Sizes = "corpus" // ordinary mail, with attachments of many kinds
)

// shared is the part of disk in which one message goes to many recipients.
const shared = "shared"

// class is one size of body.
type class struct {
	weight int // of 100 messages
	size   int // bytes, of the body
	attach bool
}

// mixed is the usual shape of mail: many short texts, a few large attachments that
// make up most of the bytes.
var mixed = [...]class{{50, 1_600, false}, {30, 5_600, false}, {15, 19_500, false}, {4, 80_000, true}, {1, 400_000, true}}

// letters makes messages, for any number of goroutines. The n-th message of a seed is the same in every run and for
// every server, and no two have the same body, so that a server that keeps equal bodies
// once has nothing to gain.
type letters struct {
	seed   string
	bodies []form  // taken in turn; in an order of the sizes that is fixed
	corpus *corpus // makes the messages, if set
}

// form is a body with a place for a line that makes it unique.
type form struct{ before, after []byte }

const variants = 100 // bodies made ahead; making one for each message would cost more than sending it

// newLetters returns the maker of the messages of a seed.
func newLetters(seed string, sizes Sizes) *letters {
	if sizes == Corpus {
		return &letters{corpus: newCorpus(seed)}
	}
	rnd := rand.New(rand.NewPCG(1, uint64(len(sizes))))
	l := &letters{seed: seed}
	vocabulary := vocabulary(rnd)
	for i := range variants {
		c := class{size: 1_050}
		if sizes == Mixed {
			c = classOf(i)
		}
		l.bodies = append(l.bodies, body(writer{rnd, vocabulary}, c, i))
	}
	rnd.Shuffle(len(l.bodies), func(i, j int) { l.bodies[i], l.bodies[j] = l.bodies[j], l.bodies[i] })
	return l
}

func classOf(i int) class {
	for _, c := range mixed {
		if i -= c.weight; i < 0 {
			return c
		}
	}
	return mixed[0]
}

// append appends the n-th message to b, in CRLF form; no line begins with a dot.
func (l *letters) append(b []byte, n int) []byte {
	if l.corpus != nil {
		return l.corpus.append(b, n)
	}
	who := people[n%len(people)]
	b = append(b, "From: "...)
	b = append(b, who...)
	b = append(b, "\r\nTo: Reader <reader@example.net>\r\nSubject: Note "...)
	b = strconv.AppendInt(b, int64(n), 10)
	b = append(b, " on "...)
	b = append(b, words[n%len(words)]...)
	b = append(b, ' ')
	b = append(b, words[n/7%len(words)]...)
	b = append(b, "\r\nDate: "...)
	b = epoch.Add(time.Duration(n)*time.Minute).AppendFormat(b, time.RFC1123Z)
	b = append(b, "\r\nMessage-ID: <"...)
	b = append(b, l.seed...)
	b = append(b, '.')
	b = strconv.AppendInt(b, int64(n), 10)
	b = append(b, "@bench.example>\r\nMIME-Version: 1.0\r\n"...)
	f := l.bodies[n%len(l.bodies)]
	b = append(b, f.before...)
	b = append(b, "No. "...)
	b = strconv.AppendInt(b, int64(n), 10)
	b = append(b, " of "...)
	b = append(b, l.seed...)
	b = append(b, "\r\n"...)
	return append(b, f.after...)
}

var epoch = time.Date(2024, 1, 1, 8, 0, 0, 0, time.UTC)

var people = [...]string{
	"Ada Example <ada@example.org>", "\"Brown, Bob\" <bob.brown@example.com>", "carla@example.net",
	"=?utf-8?q?J=C3=BCrgen_M=C3=BCller?= <jm@example.de>", "Newsletter <news@lists.example.org>",
	"Support Desk <support+4711@example.com>", "dora@example.org (Dora)",
}

var words = [...]string{
	"harbour", "invoice", "meeting", "garden", "engine", "weather", "letter", "window", "paper", "river",
	"Tuesday", "budget", "station", "concert", "library", "morning", "ticket", "kitchen", "bridge", "holiday",
	"report", "question", "answer", "delivery", "and", "the", "of", "with", "about", "after", "because", "quite",
}

// place marks where the unique line of a body goes.
const place = "\x00"

// writer makes text.
type writer struct {
	rnd   *rand.Rand
	words []string
}

// vocabulary returns words as varied as those of a language, so that text made of them
// compresses about as well as real text.
func vocabulary(rnd *rand.Rand) []string {
	const onset, vowel, coda = "bcdfghjklmnprstvw", "aeiouy", "nrstlm "
	var out []string
	for range 3_000 {
		var b strings.Builder
		for range 1 + rnd.IntN(3) {
			b.WriteByte(onset[rnd.IntN(len(onset))])
			b.WriteByte(vowel[rnd.IntN(len(vowel))])
			if c := coda[rnd.IntN(len(coda))]; c != ' ' {
				b.WriteByte(c)
			}
		}
		out = append(out, b.String())
	}
	return out
}

// body returns the Content fields, the empty line and the body of a message.
func body(w writer, c class, i int) form {
	text := w.prose(c.size)
	var all []byte
	switch {
	case c.attach:
		all = fmt.Appendf(nil, "Content-Type: multipart/mixed; boundary=\"b%d\"\r\n\r\n--b%d\r\n"+
			"Content-Type: text/plain; charset=utf-8\r\n\r\n%s%s\r\n--b%d\r\n"+
			"Content-Type: application/pdf; name=\"plan-%d.pdf\"\r\nContent-Transfer-Encoding: base64\r\n"+
			"Content-Disposition: attachment; filename=\"plan-%d.pdf\"\r\n\r\n%s--b%d--\r\n",
			i, i, place, w.prose(1_500), i, i, i, w.noise(c.size), i)
	case i%3 == 0:
		half := len(text) / 2
		all = fmt.Appendf(nil, "Content-Type: multipart/alternative; boundary=\"a%d\"\r\n\r\n--a%d\r\n"+
			"Content-Type: text/plain; charset=utf-8\r\n\r\n%s%s\r\n--a%d\r\n"+
			"Content-Type: text/html; charset=utf-8\r\n\r\n<html><body><p>%s</p></body></html>\r\n--a%d--\r\n",
			i, i, place, text[:half], i, text[half:], i)
	default:
		all = fmt.Appendf(nil, "Content-Type: text/plain; charset=utf-8\r\n\r\n%s%s\r\n", place, text)
	}
	before, after, _ := bytes.Cut(all, []byte(place))
	return form{before, after}
}

// prose returns about size bytes of words in lines; some words are far more frequent
// than others.
func (w writer) prose(size int) string {
	var b strings.Builder
	for line := 0; b.Len() < size; {
		share := w.rnd.Float64()
		word := w.words[int(share*share*share*float64(len(w.words)))]
		if line+len(word) > 70 {
			b.WriteString("\r\n")
			line = 0
		}
		b.WriteString(word)
		b.WriteByte(' ')
		line += len(word) + 1
	}
	return b.String()
}

// noise returns about size bytes of base64 that do not compress further.
func (w writer) noise(size int) string {
	var b strings.Builder
	var raw [57]byte
	for b.Len() < size {
		for i := range raw {
			raw[i] = byte(w.rnd.Uint32())
		}
		b.WriteString(base64.StdEncoding.EncodeToString(raw[:]))
		b.WriteString("\r\n")
	}
	return b.String()
}
