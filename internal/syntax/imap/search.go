package imap

import (
	"errors"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/ianaindex"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// SearchOp is what a search key asks.
type SearchOp uint8

const (
	SearchAnd         SearchOp = iota + 1 // all of Keys; without any, every message
	SearchOr                              // one of the two Keys
	SearchNot                             // not the one of Keys
	SearchSeq                             // Set, sequence numbers
	SearchUID                             // Set, UIDs
	SearchFlag                            // has Flag
	SearchKeyword                         // has the keyword Text
	SearchRecent                          // \Recent, which IMAP4rev2 does not know
	SearchBefore                          // internal date before the day of Date
	SearchOn                              // on it
	SearchSince                           // on it or later
	SearchSentBefore                      // the same with the Date field
	SearchSentOn                          //
	SearchSentSince                       //
	SearchLarger                          // more than Number bytes
	SearchSmaller                         // fewer
	SearchAddress                         // Text is in the field Field (From, To, Cc, Bcc), written or as addresses
	SearchHeader                          // the field Field has Text in it; "" is any
	SearchBody                            // the text of the message has Text in it
	SearchText                            // its text or its header
	SearchModSeq                          // modseq of at least Number (RFC 7162, 3.1.5)
	SearchOlder                           // internal date Number seconds ago or before (RFC 5032)
	SearchYounger                         // Number seconds ago or after
	SearchSavedBefore                     // the day it came into the mailbox (RFC 8514, 4.3)
	SearchSavedOn                         //
	SearchSavedSince                      //
	SearchFuzzy                           // the one of Keys, matched loosely (RFC 6203, 3)
	SearchFilter                          // what the filter called Text says (RFC 5466, 3.1)
	SearchEmailID                         // the object id is Text (RFC 8474, 6)
	SearchThreadID                        // that of the thread is
	SearchGmailID                         // the message has Number (X-GM-MSGID)
	SearchGmailThread                     // its thread has (X-GM-THRID)
	SearchLabel                           // it has the label Text (X-GM-LABELS)
	SearchLabelLike                       // one like Text: case, spaces and slashes apart
	SearchAttachment                      // it has an attachment
	SearchFilename                        // the name of a part has Text in it
	SearchFromSecond                      // internal date Number seconds after 1970 or later
	SearchUntilSecond                     // earlier than that
	SearchAnnotation                      // a value (Number says of which) of an entry like Field has Text in it
	SearchUIDAfter                        // UID above Number (RFC 9738, 3.2)
	SearchUIDBefore                       // UID below it
)

// SearchKey is a search program: a tree of keys (RFC 9051, 6.4.4).
type SearchKey struct {
	Op     SearchOp
	Keys   []SearchKey
	Set    SeqSet
	Flag   mail.Flags
	Field  string // in the client's spelling
	Text   string // UTF-8, whatever charset it came in
	Date   time.Time
	Number uint64
}

// SearchReturn is what an extended SEARCH returns (RFC 9051, 6.4.4; RFC 4731).
type SearchReturn uint16

const (
	ReturnMin SearchReturn = 1 << iota
	ReturnMax
	ReturnAll
	ReturnCount
	ReturnSave
	ReturnRelevancy // RFC 6203, 4
	ReturnPartial   // RFC 9394, 3.1; RFC 5267, 4.4
	ReturnContext   // RFC 5267, 4.2
	ReturnUpdate    // RFC 5267, 4.3
)

var returnNames = [...]string{"MIN", "MAX", "ALL", "COUNT", "SAVE", "RELEVANCY", "PARTIAL", "CONTEXT", "UPDATE"}

// Search is the arguments of SEARCH.
type Search struct {
	Extended bool         // RETURN was given: the answer is an ESEARCH
	Return   SearchReturn // RETURN () is RETURN (ALL)
	Partial  PartialRange // of ReturnPartial
	Update   []FetchItem  // of ReturnUpdate: what to fetch of new messages (RFC 5465, 7)
	Charset  string
	Key      SearchKey
}

// ExpectSearch reads the arguments of SEARCH, without the space before them.
func (d *Decoder) ExpectSearch(out *Search) bool {
	var first string
	ok := d.letters(&first)
	return d.searchArguments(out, first, ok)
}

// searchArguments reads the arguments of SEARCH. With ok set, first is the first word
// of them, which has been read.
func (d *Decoder) searchArguments(out *Search, first string, ok bool) bool {
	var s Search
	if ok && strings.EqualFold(first, "RETURN") {
		if s.Extended = true; !d.searchReturn(&s) || !d.ExpectSP() {
			return false
		}
		ok = d.letters(&first)
	}
	// Known even if the rest fails: a SAVE that fails has a consequence (RFC 9051,
	// 6.4.4.1).
	out.Extended, out.Return = s.Extended, s.Return
	dec := charsetDecoder(nil)
	if ok && strings.EqualFold(first, "CHARSET") {
		if !d.searchCharset(&s, &dec) || !d.ExpectSP() {
			return false
		}
		ok = d.letters(&first)
	}
	if !d.searchProgram(&s.Key, dec, first, ok) {
		return false
	}
	*out = s
	return d.err == nil
}

// searchProgram reads search keys. With given set, first is the first one's name,
// which has been read.
func (d *Decoder) searchProgram(out *SearchKey, text charsetDecoder, first string, given bool) bool {
	p := searchParser{d: d, text: text}
	all := SearchKey{Op: SearchAnd}
	for {
		var key SearchKey
		read := false
		if given {
			read, given = p.named(first, &key), false
		} else {
			read = p.key(&key)
		}
		if !read {
			return false
		}
		all.Keys = append(all.Keys, key)
		if !d.SP() {
			break
		}
	}
	if len(all.Keys) == 1 {
		all = all.Keys[0]
	}
	*out = all
	return d.err == nil
}

// letters reads an atom that begins with a letter: no set does.
func (d *Decoder) letters(out *string) bool {
	c, ok := d.peek()
	return ok && (c|0x20 >= 'a' && c|0x20 <= 'z') && d.Atom(out)
}

func (d *Decoder) searchReturn(s *Search) bool {
	if !d.ExpectSP() || !d.ExpectList(func() bool { return d.returnOption(s) }) {
		return false
	}
	if s.Return == 0 {
		s.Return = ReturnAll
	}
	return true
}

func (d *Decoder) returnOption(s *Search) bool {
	var word string
	if !d.ExpectWord(&word, "a return option") {
		return false
	}
	i := slices.Index(returnNames[:], word)
	if i < 0 {
		return d.Fail("SEARCH cannot return " + clip(word))
	}
	option := SearchReturn(1) << i
	if option == ReturnPartial {
		if s.Return&ReturnPartial != 0 {
			return d.Fail("one PARTIAL is all there can be")
		}
		if !d.ExpectSP() || !d.expectPartial(&s.Partial) {
			return false
		}
	}
	if option == ReturnUpdate && !d.fetchAttributes(&s.Update) {
		return false
	}
	s.Return |= option
	if s.Return&ReturnAll != 0 && s.Return&ReturnPartial != 0 { // RFC 9394, 3.1
		return d.Fail("ALL and PARTIAL exclude each other")
	}
	return true
}

// charsetDecoder turns the bytes of a string into UTF-8; nil takes them for UTF-8.
type charsetDecoder encoding.Encoding

// ErrCharset is the cause of the error for a charset nobody knows; the answer is
// NO [BADCHARSET] (RFC 9051, 6.4.4).
var ErrCharset = errors.New("search charset is not supported")

func (d *Decoder) searchCharset(s *Search, dec *charsetDecoder) bool {
	if !d.ExpectSP() || !d.expectFilled(&s.Charset, "a charset") {
		return false
	}
	if strings.EqualFold(s.Charset, "UTF-8") || strings.EqualFold(s.Charset, "US-ASCII") {
		return true
	}
	enc, err := ianaindex.MIME.Encoding(s.Charset)
	if err != nil || enc == nil {
		return d.fault(fault.Wrap(fault.Unsupported, "this charset is not supported in SEARCH", ErrCharset))
	}
	*dec = enc
	return true
}

type searchParser struct {
	d    *Decoder
	text charsetDecoder
}

// key reads one search key.
func (p searchParser) key(out *SearchKey) bool {
	d := p.d
	if c, _ := d.peek(); c == '(' {
		return p.group(out)
	}
	var key SearchKey
	if d.seqSet(&key.Set) {
		key.Op = SearchSeq
		*out = key
		return d.count()
	}
	var word string
	return d.ExpectWord(&word, "a search key") && p.named(word, out)
}

func (p searchParser) group(out *SearchKey) bool {
	key := SearchKey{Op: SearchAnd}
	if !p.d.List(func() bool {
		var k SearchKey
		if !p.key(&k) {
			return false
		}
		key.Keys = append(key.Keys, k)
		return true
	}) {
		return false
	}
	if len(key.Keys) == 0 {
		return p.d.Fail("an empty list of search keys")
	}
	if len(key.Keys) == 1 {
		key = key.Keys[0]
	}
	*out = key
	return true
}

// Arguments that a key takes.
type searchArg uint8

const (
	argNone searchArg = iota
	argText
	argField // a header field name, then text
	argKeyword
	argDate
	argNumber
	argSet
	argKey
	argTwoKeys
	argModSeq
	argInterval
	argFilter
	argNumber64
	argLabel
	argGmail
	argNote
	argUID
)

type searchRow struct {
	key SearchKey
	arg searchArg
	not bool // the key is the opposite of what the row says
}

// searchKeys is every key by name; another extension's key is one more row.
var searchKeys = map[string]searchRow{
	"ALL":        {key: SearchKey{Op: SearchAnd}},
	"ANSWERED":   {key: SearchKey{Op: SearchFlag, Flag: mail.Answered}},
	"DELETED":    {key: SearchKey{Op: SearchFlag, Flag: mail.Deleted}},
	"DRAFT":      {key: SearchKey{Op: SearchFlag, Flag: mail.Draft}},
	"FLAGGED":    {key: SearchKey{Op: SearchFlag, Flag: mail.Flagged}},
	"SEEN":       {key: SearchKey{Op: SearchFlag, Flag: mail.Seen}},
	"UNANSWERED": {key: SearchKey{Op: SearchFlag, Flag: mail.Answered}, not: true},
	"UNDELETED":  {key: SearchKey{Op: SearchFlag, Flag: mail.Deleted}, not: true},
	"UNDRAFT":    {key: SearchKey{Op: SearchFlag, Flag: mail.Draft}, not: true},
	"UNFLAGGED":  {key: SearchKey{Op: SearchFlag, Flag: mail.Flagged}, not: true},
	"UNSEEN":     {key: SearchKey{Op: SearchFlag, Flag: mail.Seen}, not: true},
	"RECENT":     {key: SearchKey{Op: SearchRecent}},
	"OLD":        {key: SearchKey{Op: SearchRecent}, not: true},
	"NEW": {key: SearchKey{Op: SearchAnd, Keys: []SearchKey{
		{Op: SearchRecent}, {Op: SearchNot, Keys: []SearchKey{{Op: SearchFlag, Flag: mail.Seen}}},
	}}},
	"KEYWORD":    {SearchKey{Op: SearchKeyword}, argKeyword, false},
	"UNKEYWORD":  {SearchKey{Op: SearchKeyword}, argKeyword, true},
	"BCC":        {SearchKey{Op: SearchAddress, Field: "BCC"}, argText, false},
	"CC":         {SearchKey{Op: SearchAddress, Field: "CC"}, argText, false},
	"FROM":       {SearchKey{Op: SearchAddress, Field: "FROM"}, argText, false},
	"SUBJECT":    {SearchKey{Op: SearchHeader, Field: "SUBJECT"}, argText, false},
	"TO":         {SearchKey{Op: SearchAddress, Field: "TO"}, argText, false},
	"HEADER":     {SearchKey{Op: SearchHeader}, argField, false},
	"BODY":       {SearchKey{Op: SearchBody}, argText, false},
	"TEXT":       {SearchKey{Op: SearchText}, argText, false},
	"BEFORE":     {SearchKey{Op: SearchBefore}, argDate, false},
	"ON":         {SearchKey{Op: SearchOn}, argDate, false},
	"SINCE":      {SearchKey{Op: SearchSince}, argDate, false},
	"SENTBEFORE": {SearchKey{Op: SearchSentBefore}, argDate, false},
	"SENTON":     {SearchKey{Op: SearchSentOn}, argDate, false},
	"SENTSINCE":  {SearchKey{Op: SearchSentSince}, argDate, false},
	"LARGER":     {SearchKey{Op: SearchLarger}, argNumber, false},
	"SMALLER":    {SearchKey{Op: SearchSmaller}, argNumber, false},
	"UID":        {SearchKey{Op: SearchUID}, argSet, false},
	"NOT":        {SearchKey{Op: SearchNot}, argKey, false},
	"OR":         {SearchKey{Op: SearchOr}, argTwoKeys, false},
	"MODSEQ":     {SearchKey{Op: SearchModSeq}, argModSeq, false},

	"OLDER":             {SearchKey{Op: SearchOlder}, argInterval, false},
	"YOUNGER":           {SearchKey{Op: SearchYounger}, argInterval, false},
	"SAVEDBEFORE":       {SearchKey{Op: SearchSavedBefore}, argDate, false},
	"SAVEDON":           {SearchKey{Op: SearchSavedOn}, argDate, false},
	"SAVEDSINCE":        {SearchKey{Op: SearchSavedSince}, argDate, false},
	"SAVEDATESUPPORTED": {key: SearchKey{Op: SearchAnd}}, // by every mailbox here
	"FUZZY":             {SearchKey{Op: SearchFuzzy}, argKey, false},
	"FILTER":            {SearchKey{Op: SearchFilter}, argFilter, false},
	"EMAILID":           {SearchKey{Op: SearchEmailID}, argKeyword, false},
	"THREADID":          {SearchKey{Op: SearchThreadID}, argKeyword, false},
	"ANNOTATION":        {SearchKey{Op: SearchAnnotation}, argNote, false},
	"X-GM-MSGID":        {SearchKey{Op: SearchGmailID}, argNumber64, false},
	"X-GM-THRID":        {SearchKey{Op: SearchGmailThread}, argNumber64, false},
	"X-GM-LABELS":       {SearchKey{Op: SearchLabel}, argLabel, false},
	"X-GM-RAW":          {SearchKey{}, argGmail, false},
	"UIDAFTER":          {SearchKey{Op: SearchUIDAfter}, argUID, false},
	"UIDBEFORE":         {SearchKey{Op: SearchUIDBefore}, argUID, false},
}

// named reads the arguments of the key called word.
func (p searchParser) named(word string, out *SearchKey) bool {
	d := p.d
	row, ok := searchKeys[strings.ToUpper(word)]
	if !ok {
		if d.Old && strings.HasPrefix(word, "~") { // RFC 1203 has keys of this form
			return d.noIMAP3()
		}
		return d.Fail("there is no search key " + clip(word))
	}
	key := row.key
	if !d.count() || !p.argument(row.arg, &key) {
		return false
	}
	if row.not {
		key = SearchKey{Op: SearchNot, Keys: []SearchKey{key}}
	}
	*out = key
	return true
}

func (p searchParser) argument(arg searchArg, key *SearchKey) bool {
	d := p.d
	if arg != argNone && !d.ExpectSP() {
		return false
	}
	switch arg {
	case argText:
		return p.string(&key.Text)
	case argField:
		return d.expectFilled(&key.Field, "a header field name") && d.ExpectSP() && p.string(&key.Text)
	case argKeyword:
		return d.Atom(&key.Text) || d.expected("a keyword or an id")
	case argDate:
		return d.ExpectDate(&key.Date)
	case argNumber:
		return d.ExpectNumber64(&key.Number)
	case argUID:
		return d.uniqueID(&key.Number)
	case argSet:
		return d.ExpectSeqSet(&key.Set)
	case argKey, argTwoKeys:
		return p.operands(arg, key)
	case argModSeq:
		return p.modSeq(key)
	case argFilter:
		if !d.Atom(&key.Text) {
			return d.expected("the name of a filter")
		}
		return !strings.Contains(key.Text, "/") || d.Fail("the name of a filter has a /")
	case argNote:
		return p.noteKey(key)
	case argNumber64:
		return d.number(&key.Number, 1<<64-1, "a number")
	case argLabel:
		return d.expectLabel(&key.Text)
	case argGmail:
		return p.string(&key.Text) && d.gmailQuery(key.Text, key)
	case argInterval:
		return d.ExpectNumber64(&key.Number) && (key.Number > 0 || d.Fail("an interval of no seconds"))
	}
	return true
}

func (p searchParser) operands(arg searchArg, key *SearchKey) bool {
	if !p.d.enter() {
		return false
	}
	defer p.d.leave()
	key.Keys = make([]SearchKey, 1, 2)
	if !p.key(&key.Keys[0]) {
		return false
	}
	if arg == argKey {
		return true
	}
	key.Keys = key.Keys[:2]
	return p.d.ExpectSP() && p.key(&key.Keys[1])
}

// modSeq reads MODSEQ's number; the name of a flag and of a type that may stand
// before it change nothing here, for all flags share one modseq (RFC 7162, 3.1.5).
func (p searchParser) modSeq(key *SearchKey) bool {
	d := p.d
	var entry, kind string
	if d.String(&entry) {
		if !d.ExpectSP() || !d.ExpectWord(&kind, "all, priv or shared") || !d.ExpectSP() {
			return false
		}
		if kind != "ALL" && kind != "PRIV" && kind != "SHARED" {
			return d.Fail("expected all, priv or shared, found " + clip(kind))
		}
	}
	return d.ExpectNumber64(&key.Number)
}

// string reads an astring in the search's charset.
func (p searchParser) string(out *string) bool {
	if !p.d.expectAString(out, "a string to search for") {
		return false
	}
	if p.text != nil {
		s, err := p.text.NewDecoder().String(*out)
		if err != nil {
			return p.d.Fail("a search string is not in the charset that was named")
		}
		*out = s
	}
	return utf8.ValidString(*out) || p.d.Fail("a search string is not valid UTF-8")
}
