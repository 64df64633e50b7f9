package emlx

import (
	"encoding/xml"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/move"
)

// properties are what the list behind a message says.
type properties struct {
	flags    uint64
	received time.Time
}

// Bits of "flags".
const (
	bitRead      = 1 << 0
	bitDeleted   = 1 << 1
	bitAnswered  = 1 << 2
	bitFlagged   = 1 << 4
	bitDraft     = 1 << 6
	bitForwarded = 1 << 8
	bitJunk      = 1 << 24
	bitNotJunk   = 1 << 25
)

// apply gives an item its flags and date.
func (p properties) apply(item *move.Item) {
	for _, f := range []struct {
		bit  uint64
		flag mail.Flags
	}{{bitRead, mail.Seen}, {bitDeleted, mail.Deleted}, {bitAnswered, mail.Answered}, {bitFlagged, mail.Flagged}, {bitDraft, mail.Draft}} {
		if p.flags&f.bit != 0 {
			item.Flags |= f.flag
		}
	}
	if p.flags&bitForwarded != 0 {
		item.Keywords = append(item.Keywords, "$Forwarded")
	}
	switch p.flags & (bitJunk | bitNotJunk) {
	case bitJunk:
		item.Keywords = append(item.Keywords, "$Junk")
	case bitNotJunk:
		item.Keywords = append(item.Keywords, "$NotJunk")
	}
	item.Date = p.received
}

// readProperties reads a property list in XML: the numbers of its outermost dictionary. No
// entity but those of XML is known, and nothing is fetched.
func readProperties(r io.Reader) (p properties, err error) {
	d := xml.NewDecoder(r)
	d.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil }
	depth, key, text := 0, "", ""
	for {
		t, err := d.RawToken()
		if err == io.EOF && depth == 0 {
			return p, nil
		}
		if err != nil {
			return p, err
		}
		switch t := t.(type) {
		case xml.StartElement:
			if depth++; depth > 64 {
				return p, errors.New("the list has too many levels")
			}
			text = ""
		case xml.CharData:
			if len(text)+len(t) <= 1<<10 {
				text += string(t)
			}
		case xml.EndElement:
			if depth--; depth < 0 {
				return p, errors.New("the list ends before it begins")
			}
			if depth != 2 { // plist, dict
				continue
			}
			if t.Name.Local == "key" {
				key = text
				continue
			}
			p.set(key, strings.TrimSpace(text))
			key = ""
		}
	}
}

func (p *properties) set(key, value string) {
	n, err := strconv.ParseFloat(value, 64)
	if err != nil || n < 0 || n > 1<<52 {
		return
	}
	switch key {
	case "flags":
		p.flags = uint64(n)
	case "date-received":
		if n > 0 && n < 1<<37 {
			p.received = time.Unix(int64(n), 0).UTC()
		}
	}
}
