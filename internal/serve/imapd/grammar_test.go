package imapd

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// A reader of responses that is strict where clients are not, and shares nothing with the
// server: what it refuses is no response of RFC 9051, 9.

// said is one value of a response.
type said struct {
	kind byte // 'a' an atom or number, '"' a quoted string, '{' a literal, '(' a list
	text string
	list []said
}

func (v *said) isNIL() bool    { return v.kind == 'a' && v.text == "NIL" }
func (v *said) isString() bool { return v.kind == '"' || v.kind == '{' }
func (v *said) isNumber() bool { return v.kind == 'a' && numeral.MatchString(v.text) }

var numeral = regexp.MustCompile(`^(0|[1-9][0-9]{0,19})$`)

// strictReader reads values from a response.
type strictReader struct{ rest string }

var errNotIMAP = errors.New("it is not in the grammar")

func (r *strictReader) fail(what string) error {
	return fmt.Errorf("%w: %s before %.60q", errNotIMAP, what, r.rest)
}

func (r *strictReader) take(prefix string) bool {
	rest, ok := strings.CutPrefix(r.rest, prefix)
	if ok {
		r.rest = rest
	}
	return ok
}

// values reads values up to an end, which it leaves: one space between them, or none
// between two lists.
func (r *strictReader) values(end string) (list []said, err error) {
	for !strings.HasPrefix(r.rest, end) {
		if n := len(list); n > 0 && !r.take(" ") && (list[n-1].kind != '(' || !strings.HasPrefix(r.rest, "(")) {
			return nil, r.fail("no space")
		}
		v, err := r.value()
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

func (r *strictReader) value() (v said, err error) {
	switch {
	case r.take("("):
		v.kind = '('
		if v.list, err = r.values(")"); err == nil {
			r.take(")")
		}
		return v, err
	case r.take(`"`):
		return r.quoted()
	case strings.HasPrefix(r.rest, "{"), strings.HasPrefix(r.rest, "~{"):
		return r.literal()
	}
	return r.atom()
}

func (r *strictReader) quoted() (v said, err error) {
	v.kind = '"'
	var b strings.Builder
	for i := 0; i < len(r.rest); i++ {
		switch c := r.rest[i]; c {
		case '"':
			r.rest = r.rest[i+1:]
			if v.text = b.String(); !utf8.ValidString(v.text) {
				err = r.fail("a quoted string that is not UTF-8")
			}
			return v, err
		case '\r', '\n', 0:
			return v, r.fail("a control character in a quoted string")
		case '\\':
			if i++; i == len(r.rest) || r.rest[i] != '"' && r.rest[i] != '\\' {
				return v, r.fail("a backslash before nothing special")
			}
			b.WriteByte(r.rest[i])
		default:
			b.WriteByte(c)
		}
	}
	return v, r.fail("an open quoted string")
}

func (r *strictReader) literal() (v said, err error) {
	v.kind = '{'
	binary := r.take("~")
	r.take("{")
	size, rest, ok := strings.Cut(r.rest, "}\r\n")
	n, err := strconv.Atoi(size)
	if !ok || err != nil || !numeral.MatchString(size) || n > len(rest) {
		return v, r.fail("the head of a literal")
	}
	v.text, r.rest = rest[:n], rest[n:]
	if !binary && strings.Contains(v.text, "\x00") {
		return v, r.fail("a NUL in a literal")
	}
	return v, nil
}

// atom reads an atom, a number, a flag, a set, or a FETCH item with its section.
func (r *strictReader) atom() (v said, err error) {
	v.kind = 'a'
	start := r.rest
	for len(r.rest) > 0 {
		c := r.rest[0]
		if c == '[' {
			r.rest = r.rest[1:]
			if _, err := r.values("]"); err != nil {
				return v, err
			}
			r.take("]")
			continue
		}
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`(){"]%`, c) >= 0 || c == '\\' && len(r.rest) != len(start) {
			break
		}
		r.rest = r.rest[1:]
	}
	if v.text = start[:len(start)-len(r.rest)]; v.text == "" || v.text == `\` {
		return v, r.fail("no value")
	}
	return v, nil
}

// text reads the text of an answer: a code in brackets, perhaps, and words.
func (r *strictReader) text() error {
	if r.take("[BADURL ") { // any text (RFC 4469, 5)
		if _, rest, ok := strings.Cut(r.rest, "] "); ok {
			r.rest = rest
		}
	} else if r.take("[") {
		if list, err := r.values("]"); err != nil {
			return err
		} else if len(list) == 0 || list[0].kind != 'a' {
			return r.fail("a response code without a name")
		}
		if r.take("]"); !r.take(" ") {
			return r.fail("no space after a response code")
		}
	}
	words, end := strings.CutSuffix(r.rest, "\r\n")
	if !end || words == "" || strings.ContainsAny(words, "\r\n\x00") || !utf8.ValidString(words) {
		return r.fail("no text")
	}
	r.rest = ""
	return nil
}

var (
	statusWord   = regexp.MustCompile(`^(OK|NO|BAD|BYE|PREAUTH) `)
	responseName = regexp.MustCompile(`^[A-Z][A-Z0-9-]*`)
	ofNumber     = regexp.MustCompile(`^([1-9][0-9]*|0) (EXISTS|RECENT|EXPUNGE|FETCH|UIDFETCH|STORE|COPY)`)
)

// grammatical refuses what is no response.
func grammatical(response string) error {
	r := &strictReader{response}
	if r.take("+ ") {
		if r.rest == "\r\n" { // a challenge of nothing, in base64
			return nil
		}
		return r.text()
	}
	if !r.take("* ") {
		tag, rest, ok := strings.Cut(r.rest, " ")
		if !ok || tag == "" || strings.ContainsAny(tag, "(){%*\"\\+\r\n\x00") || !strings.HasPrefix(rest, "OK ") && !strings.HasPrefix(rest, "NO ") && !strings.HasPrefix(rest, "BAD ") {
			return r.fail("neither an answer nor anything else")
		}
		r.rest = rest
	}
	if m := statusWord.FindString(r.rest); m != "" {
		r.take(m)
		return r.text()
	}
	if m := ofNumber.FindStringSubmatch(r.rest); m != nil {
		r.take(m[0])
		return r.ofMessage(m[1], m[2])
	}
	name := responseName.FindString(r.rest)
	if name == "" || !r.take(name) {
		return r.fail("no keyword")
	}
	list, err := r.args()
	if err != nil {
		return err
	}
	return formOf(name, list)
}

// args reads the values up to the end of the response.
func (r *strictReader) args() ([]said, error) {
	if r.rest == "\r\n" {
		return nil, nil
	}
	if !r.take(" ") {
		return nil, r.fail("no space")
	}
	list, err := r.values("\r\n")
	if err == nil && r.rest != "\r\n" {
		err = r.fail("more than a response")
	}
	return list, err
}

func (r *strictReader) ofMessage(n, what string) error {
	list, err := r.args()
	if err != nil {
		return err
	}
	switch what {
	case "EXISTS", "RECENT":
	case "EXPUNGE":
		if n == "0" {
			return r.fail("message 0")
		}
	case "FETCH", "UIDFETCH":
		if n == "0" || len(list) != 1 || list[0].kind != '(' {
			return r.fail("no list of what was fetched")
		}
		return fetchedItems(list[0].list)
	}
	if what != "STORE" && len(list) > 0 {
		return r.fail("more than a number")
	}
	return nil
}

// formOf holds responses of known names against their forms.
func formOf(name string, list []said) error {
	bad := fmt.Errorf("%w: a %s response of %d values", errNotIMAP, name, len(list))
	switch name {
	case "SEARCH", "SORT":
		for i := range list {
			if v := &list[i]; !v.isNumber() && !(i == len(list)-1 && v.kind == '(' && len(v.list) == 2 && v.list[0].text == "MODSEQ") {
				return bad
			}
		}
	case "FLAGS":
		if len(list) != 1 || list[0].kind != '(' {
			return bad
		}
	case "LIST", "LSUB", "XLIST":
		if len(list) < 3 || len(list) > 4 || list[0].kind != '(' || !list[1].isNIL() && (list[1].kind != '"' || len(list[1].text) != 1) || list[2].kind == '(' {
			return bad
		}
	case "STATUS":
		if len(list) != 2 || list[0].kind == '(' || list[1].kind != '(' || len(list[1].list)%2 != 0 {
			return bad
		}
	case "CAPABILITY", "ENABLED":
		for i := range list {
			if list[i].kind != 'a' {
				return bad
			}
		}
	case "THREAD":
		for i := range list {
			if list[i].kind != '(' {
				return bad
			}
		}
	case "VANISHED":
		if n := len(list); n < 1 || n > 2 || list[n-1].kind != 'a' || strings.Contains(list[n-1].text, "*") {
			return bad
		}
	}
	return nil
}

var section = regexp.MustCompile(`^(BODY|BINARY|BINARY\.SIZE)\[.*\](<[0-9]+>)?$`)

func fetchedItems(list []said) error {
	if len(list)%2 != 0 {
		return fmt.Errorf("%w: %d items of a FETCH", errNotIMAP, len(list))
	}
	for i := 0; i < len(list); i += 2 {
		name, v := list[i], &list[i+1]
		ok := name.kind == 'a'
		switch name.text {
		case "UID", "RFC822.SIZE":
			ok = v.isNumber()
		case "FLAGS":
			ok = v.kind == '('
			for j := range v.list {
				ok = ok && v.list[j].kind == 'a'
			}
		case "MODSEQ":
			ok = v.kind == '(' && len(v.list) == 1 && v.list[0].isNumber()
		case "INTERNALDATE":
			_, err := time.Parse(`_2-Jan-2006 15:04:05 -0700`, v.text)
			ok = v.kind == '"' && len(v.text) == 26 && err == nil
		case "ENVELOPE":
			ok = isEnvelope(v)
		case "BODY", "BODYSTRUCTURE":
			ok = isStructure(v, 0)
		default:
			if m := section.FindStringSubmatch(strings.ReplaceAll(name.text, "\n", "")); m != nil {
				ok = v.isString() || v.isNIL()
				if m[1] == "BINARY.SIZE" {
					ok = v.isNumber()
				}
			}
		}
		if !ok {
			return fmt.Errorf("%w: %s is %.200q", errNotIMAP, name.text, fmt.Sprint(*v))
		}
	}
	return nil
}

func nstring(v *said) bool { return v.isNIL() || v.isString() }

func isEnvelope(v *said) bool {
	if v.kind != '(' || len(v.list) != 10 {
		return false
	}
	for i := range v.list {
		if i < 2 || i > 7 {
			if !nstring(&v.list[i]) {
				return false
			}
			continue
		}
		if v.list[i].isNIL() {
			continue
		}
		if v.list[i].kind != '(' || len(v.list[i].list) == 0 {
			return false
		}
		for _, a := range v.list[i].list {
			if a.kind != '(' || len(a.list) != 4 || !nstring(&a.list[0]) || !nstring(&a.list[1]) || !nstring(&a.list[2]) || !nstring(&a.list[3]) {
				return false
			}
		}
	}
	return true
}

// isStructure tells whether a value is a body (RFC 9051, 9: body).
func isStructure(v *said, depth int) bool {
	if v.kind != '(' || len(v.list) == 0 || depth > 200 {
		return false
	}
	list := v.list
	parts := 0
	for parts < len(list) && list[parts].kind == '(' {
		if !isStructure(&list[parts], depth+1) {
			return false
		}
		parts++
	}
	if parts > 0 {
		return parts < len(list) && list[parts].isString() && (len(list) == parts+1 || areParams(&list[parts+1]))
	}
	if len(list) < 7 || !list[0].isString() || !list[1].isString() || !areParams(&list[2]) || !nstring(&list[3]) || !nstring(&list[4]) || !list[5].isString() || !list[6].isNumber() {
		return false
	}
	switch kind := strings.ToUpper(list[0].text + "/" + list[1].text); {
	case kind == "MESSAGE/RFC822" || kind == "MESSAGE/GLOBAL":
		return len(list) >= 10 && isEnvelope(&list[7]) && isStructure(&list[8], depth+1) && list[9].isNumber()
	case strings.HasPrefix(kind, "TEXT/"):
		return len(list) >= 8 && list[7].isNumber()
	}
	return true
}

func areParams(v *said) bool {
	if v.isNIL() {
		return true
	}
	if v.kind != '(' || len(v.list) == 0 || len(v.list)%2 != 0 {
		return false
	}
	for i := range v.list {
		if !v.list[i].isString() {
			return false
		}
	}
	return true
}

// The strict reader takes the examples of the RFCs and refuses what only looks like them.
func TestStrictReader(t *testing.T) {
	for _, good := range []string{
		"+ go on\r\n", "+ \r\n", "a]1 NO no\r\n", "a1 OK [READ-WRITE] done\r\n", "* BAD what?\r\n", "* OK [BADCHARSET (UTF-8)] x\r\n", "* 3 EXISTS\r\n",
		"* SEARCH\r\n", "* SEARCH 2 5 (MODSEQ 917162500)\r\n", "* THREAD (2)(3 6 (4 23)(44 7 96))\r\n", "* LIST (\\Noselect) \"/\" {3}\r\na\"b\r\n",
		"* 12 FETCH (FLAGS (\\Seen $x) BODY[HEADER.FIELDS (A {1}\r\nB)]<0> {4}\r\n(\"\r\n)\r\n", "* 1 FETCH (BODY[1] ~{1}\r\n\x00)\r\n",
		`* 1 FETCH (BODYSTRUCTURE ((("text" "plain" NIL NIL NIL "7bit" 3 1)("a" "b" ("c" "d") NIL NIL "base64" 4) "alternative") "mixed" ("boundary" "x") NIL NIL))` + "\r\n",
		`* 1 FETCH (ENVELOPE ("d" NIL (("n" NIL "m" "h")(NIL NIL "g" NIL)) NIL NIL NIL NIL NIL NIL "<i>") INTERNALDATE " 1-Feb-2026 10:00:00 +0100")` + "\r\n",
	} {
		if err := grammatical(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{
		"* SEARCH 2  5\r\n", "* SEARCH 2 \r\n", "* 3 EXISTS 4\r\n", "* 1 FETCH (UID)\r\n", "* 1 FETCH (UID 1\r\n", "* 1 FETCH (UID x)\r\n", "* 1 FETCH (BODY[1] {3}\r\nab)\r\n",
		"* 0 FETCH (UID 1)\r\n", `* LIST () "/" "a\b"` + "\r\n", "* LIST () \"/\" \"a\xff\"\r\n", "* OK [X]\r\n", "* OK [X y\r\n", "* OK \r\n", "a1 FINE x\r\n", "* 1 FETCH (FLAGS (\"a\"))\r\n",
		"* 1 FETCH (BODY[1] {1}\r\n\x00)\r\n", "* 1 FETCH (ENVELOPE (NIL NIL NIL NIL NIL NIL NIL NIL NIL))\r\n", `* 1 FETCH (BODY ("text" "plain" NIL NIL NIL "7bit" 3))` + "\r\n",
		`* 1 FETCH (BODY ("text" "plain" () NIL NIL "7bit" 3 1))` + "\r\n", `* 1 FETCH (INTERNALDATE "1-Feb-2026 10:00:00 +0100")` + "\r\n", "* 1 FETCH (FLAGS () \"x\" 1)\r\n", "* 1 FETCH (UID 01)\r\n",
	} {
		if grammatical(bad) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
