package imap

import (
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// X-GM-RAW is a search as people type it into Gmail. Words stand for TEXT; words before
// a colon limit what follows; a minus sign is NOT, OR or | joins its two neighbours, {}
// joins all within, () groups, quotes hold a phrase together. What is no such thing is a
// word like any other: no query is refused but for its length and depth.

const maxQueryDepth = 50

// query is a query under way.
type query struct {
	d     *Decoder
	s     string
	at    int
	depth int
}

// gmailQuery makes search keys of a query. They count as if they had been written out.
func (d *Decoder) gmailQuery(s string, out *SearchKey) bool {
	q := query{d: d, s: s}
	var keys []SearchKey
	for q.at < len(q.s) {
		if !q.terms("", &keys) {
			return false
		}
		if q.at < len(q.s) { // a closing bracket that closes nothing
			q.at++
		}
	}
	key := joined(SearchAnd, keys)
	if d.depth+depthOf(&key) > d.lim.Depth {
		return d.Fail("a query is nested too deep")
	}
	if d.keys += 2 * key.CountKeys(); d.keys > d.lim.Keys {
		return d.Fail("a query has too many terms")
	}
	*out = key
	return true
}

// depthOf returns how many levels a program has.
func depthOf(k *SearchKey) int {
	deepest := 0
	for i := range k.Keys {
		deepest = max(deepest, 1+depthOf(&k.Keys[i]))
	}
	return deepest
}

// joined returns one key for many: none is every message.
func joined(op SearchOp, keys []SearchKey) SearchKey {
	switch {
	case len(keys) == 1:
		return keys[0]
	case op == SearchAnd || len(keys) == 0:
		return SearchKey{Op: SearchAnd, Keys: keys}
	}
	// OR takes two: a balanced tree keeps a long list from being a deep one.
	half := len(keys) / 2
	return SearchKey{Op: SearchOr, Keys: []SearchKey{joined(SearchOr, keys[:half]), joined(SearchOr, keys[half:])}}
}

// terms reads terms up to a closing bracket or the end. field is the word before the
// colon that they are about, or "".
func (q *query) terms(field string, out *[]SearchKey) bool {
	var run []SearchKey // terms that OR has joined so far
	end := func() {
		if len(run) > 0 {
			*out = append(*out, joined(SearchOr, run))
			run = nil
		}
	}
	either := false
	for {
		q.space()
		if q.at == len(q.s) || q.s[q.at] == ')' || q.s[q.at] == '}' {
			end()
			return true
		}
		if q.or() {
			either = true
			continue
		}
		if !either {
			end()
		}
		either = false
		var key SearchKey
		if !q.term(field, &key) {
			return false
		}
		run = append(run, key)
	}
}

func (q *query) space() {
	for q.at < len(q.s) {
		r, n := utf8.DecodeRuneInString(q.s[q.at:])
		if !unicode.IsSpace(r) {
			return
		}
		q.at += n
	}
}

// or reads OR or | if it stands here.
func (q *query) or() bool {
	for _, word := range [...]string{"OR", "|"} {
		rest, found := strings.CutPrefix(q.s[q.at:], word)
		if found && (word == "|" || rest == "" || strings.ContainsAny(rest[:1], " \t(){}\"")) {
			q.at += len(word)
			return true
		}
	}
	return false
}

// term reads one term with the minus sign before it.
func (q *query) term(field string, out *SearchKey) bool {
	if !q.d.count() {
		return false
	}
	not := false
	for q.at < len(q.s) && (q.s[q.at] == '-' || q.s[q.at] == '+') {
		not = not != (q.s[q.at] == '-')
		q.at++
	}
	if r, _ := utf8.DecodeRuneInString(q.s[q.at:]); q.at == len(q.s) || unicode.IsSpace(r) || r == ')' || r == '}' {
		*out = SearchKey{Op: SearchAnd} // a sign before nothing
		return true
	}
	if !q.operand(field, out) {
		return false
	}
	if not {
		*out = SearchKey{Op: SearchNot, Keys: []SearchKey{*out}}
	}
	return true
}

// operand reads a group, a phrase or a word.
func (q *query) operand(field string, out *SearchKey) bool {
	switch c := q.s[q.at]; c {
	case '(', '{':
		return q.group(field, c, out)
	case '"':
		*out = about(field, q.phrase())
		return true
	}
	word := q.word()
	if word == "AND" && field == "" { // what stands side by side has to be there anyway
		*out = SearchKey{Op: SearchAnd}
		return true
	}
	name, rest, colon := strings.Cut(word, ":")
	if f := strings.ToLower(name); colon && queryFields[f] {
		if rest != "" {
			*out = about(f, rest)
			return true
		}
		if q.at < len(q.s) && strings.IndexByte(`({"`, q.s[q.at]) >= 0 {
			return q.operand(f, out)
		}
	}
	*out = about(field, word)
	return true
}

func (q *query) group(field string, open byte, out *SearchKey) bool {
	if q.depth++; q.depth > maxQueryDepth {
		return q.d.Fail("a query has too many brackets within each other")
	}
	q.at++
	var keys []SearchKey
	if !q.terms(field, &keys) {
		return false
	}
	if q.at < len(q.s) {
		q.at++
	}
	q.depth--
	op := SearchAnd
	if open == '{' {
		op = SearchOr
	}
	*out = joined(op, keys)
	return true
}

// phrase reads what is between quotes; one that is not closed goes to the end.
func (q *query) phrase() string {
	text, _, closed := strings.Cut(q.s[q.at+1:], `"`)
	q.at += 1 + len(text)
	if closed {
		q.at++
	}
	return text
}

// word reads up to a space or a bracket, at least a byte.
func (q *query) word() string {
	from := q.at
	end := strings.IndexFunc(q.s[from:], func(r rune) bool {
		return unicode.IsSpace(r) || strings.ContainsRune(`(){}"|`, r)
	})
	switch {
	case end < 0:
		q.at = len(q.s)
	case end == 0: // OR's bar, where it joins nothing
		q.at++
	default:
		q.at += end
	}
	return q.s[from:q.at]
}

// queryFields are the words that mean something before a colon.
var queryFields = map[string]bool{
	"from": true, "to": true, "cc": true, "bcc": true, "subject": true, "deliveredto": true, "list": true, "rfc822msgid": true,
	"label": true, "l": true, "in": true, "is": true, "has": true, "filename": true,
	"larger": true, "larger_than": true, "size": true, "smaller": true, "smaller_than": true,
	"after": true, "before": true, "newer": true, "older": true, "newer_than": true, "older_than": true,
}

// about makes the key of a text that a field limits.
func about(field, text string) SearchKey {
	var key SearchKey
	ok := text != ""
	switch field {
	case "":
		ok = false
	case "from", "cc", "bcc":
		key = SearchKey{Op: SearchAddress, Field: strings.ToUpper(field), Text: text}
	case "to": // any recipient
		key = joined(SearchOr, []SearchKey{about("cc", text), about("bcc", text), {Op: SearchAddress, Field: "TO", Text: text}})
	case "subject":
		key = SearchKey{Op: SearchHeader, Field: "SUBJECT", Text: text}
	case "deliveredto":
		key = SearchKey{Op: SearchHeader, Field: "Delivered-To", Text: text}
	case "list":
		key = SearchKey{Op: SearchHeader, Field: "List-ID", Text: text}
	case "rfc822msgid":
		key = SearchKey{Op: SearchHeader, Field: "Message-ID", Text: text}
	case "filename":
		key = SearchKey{Op: SearchFilename, Text: text}
	case "label", "l":
		key, ok = state("in", strings.ToLower(text))
	case "in", "is", "has":
		key, ok = state(field, strings.ToLower(text))
	case "larger", "larger_than", "size", "smaller", "smaller_than":
		key, ok = ofSize(field, text)
	default:
		key, ok = ofDate(field, text)
	}
	if !ok {
		if field != "" {
			text = field + ":" + text
		}
		return SearchKey{Op: SearchText, Text: text}
	}
	return key
}

// states are what in:, is: and has: may say.
var states = map[string]SearchKey{
	"in:inbox": {Op: SearchLabel, Text: LabelInbox}, "in:sent": {Op: SearchLabel, Text: LabelSent},
	"in:draft": {Op: SearchLabel, Text: LabelDraft}, "in:drafts": {Op: SearchLabel, Text: LabelDraft},
	"in:trash": {Op: SearchLabel, Text: LabelTrash}, "in:bin": {Op: SearchLabel, Text: LabelTrash},
	"in:spam": {Op: SearchLabel, Text: LabelSpam}, "in:junk": {Op: SearchLabel, Text: LabelSpam},
	"in:anywhere": {Op: SearchAnd}, "in:all": {Op: SearchAnd},
	"is:starred": {Op: SearchLabel, Text: LabelStarred}, "is:important": {Op: SearchLabel, Text: LabelImportant},
	"is:sent": {Op: SearchLabel, Text: LabelSent}, "is:draft": {Op: SearchLabel, Text: LabelDraft},
	"has:attachment": {Op: SearchAttachment},
}

func state(field, text string) (SearchKey, bool) {
	if field == "in" && (text == "starred" || text == "important" || text == "unread" || text == "read") {
		field = "is" // Gmail's own example has in:unread
	}
	if row, ok := searchKeys[map[string]string{"is:unread": "UNSEEN", "is:read": "SEEN"}[field+":"+text]]; ok {
		if row.not {
			return SearchKey{Op: SearchNot, Keys: []SearchKey{row.key}}, true
		}
		return row.key, true
	}
	if field == "has" && (strings.HasSuffix(text, "-star") || strings.HasSuffix(text, "-bang")) {
		return SearchKey{Op: SearchLabel, Text: LabelStarred}, true // there is one kind of star
	}
	key, ok := states[field+":"+text]
	if !ok && field == "in" && text != "" {
		return SearchKey{Op: SearchLabelLike, Text: text}, true
	}
	return key, ok
}

var sizeUnits = map[string]uint64{"": 1, "b": 1, "k": 1 << 10, "kb": 1 << 10, "m": 1 << 20, "mb": 1 << 20, "g": 1 << 30, "gb": 1 << 30}

// ofSize reads a size such as 10M.
func ofSize(field, text string) (SearchKey, bool) {
	digits := strings.TrimRight(text, "kmgbKMGB")
	unit, known := sizeUnits[strings.ToLower(text[len(digits):])]
	n, err := strconv.ParseUint(digits, 10, 32)
	op := SearchLarger
	if strings.HasPrefix(field, "smaller") {
		op = SearchSmaller
	}
	return SearchKey{Op: op, Number: n * unit}, err == nil && known
}

// spans are the units of older_than and newer_than, in days.
var spans = map[string]uint64{"d": 1, "w": 7, "m": 30, "y": 365}

// ofDate reads a day such as 2004/04/16 or a number of seconds since 1970, or a span
// such as 2d.
func ofDate(field, text string) (SearchKey, bool) {
	older := field == "before" || strings.HasPrefix(field, "older")
	if strings.HasSuffix(field, "_than") {
		digits := strings.TrimRight(text, "dwmyDWMY")
		days, known := spans[strings.ToLower(text[len(digits):])]
		n, err := strconv.ParseUint(digits, 10, 16)
		op := SearchYounger
		if older {
			op = SearchOlder
		}
		return SearchKey{Op: op, Number: max(n*days*86400, 1)}, err == nil && known
	}
	for _, layout := range [...]string{"2006/1/2", "2006-1-2", "1/2/2006"} {
		if day, err := time.ParseInLocation(layout, text, time.UTC); err == nil && day.Year() > 0 {
			if older {
				return SearchKey{Op: SearchBefore, Date: day}, true
			}
			return SearchKey{Op: SearchSince, Date: day}, true
		}
	}
	second, err := strconv.ParseUint(text, 10, 40)
	op := SearchFromSecond
	if older {
		op = SearchUntilSecond
	}
	return SearchKey{Op: op, Number: second}, err == nil
}

// appendGmail appends a key of this extension as a client writes it.
func (k *SearchKey) appendGmail(b []byte) []byte {
	raw := func(s string) []byte { return AppendString(append(b, "X-GM-RAW "...), s, true, true) }
	switch k.Op {
	case SearchLabel:
		return appendLabel(append(b, "X-GM-LABELS "...), k.Text)
	case SearchGmailID:
		return appendNumber(append(b, "X-GM-MSGID "...), k.Number)
	case SearchGmailThread:
		return appendNumber(append(b, "X-GM-THRID "...), k.Number)
	case SearchLabelLike:
		return raw(`label:"` + k.Text + `"`)
	case SearchFilename:
		return raw(`filename:"` + k.Text + `"`)
	case SearchFromSecond:
		return raw("after:" + strconv.FormatUint(k.Number, 10))
	case SearchUntilSecond:
		return raw("before:" + strconv.FormatUint(k.Number, 10))
	}
	return raw("has:attachment")
}
