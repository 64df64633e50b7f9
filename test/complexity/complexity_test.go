//go:build linux

// Package complexity shows that every parser's work grows with its input and not faster,
// on the inputs that make parsers slow: what nests, what repeats, what never ends. The limits
// that the server sets are lifted, where there are any, so that it is the parser that is
// measured and not its limit.
package complexity

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/conf"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/syntax/imap"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
	"github.com/martlet-mail/martlet/internal/syntax/sasl"
	"github.com/martlet-mail/martlet/internal/syntax/smtp"
	"github.com/martlet-mail/martlet/test/probe"
)

// shape makes an input of about n bytes.
type shape func(n int) string

// parser is something that reads what a peer sends, and the inputs that it is measured on.
type parser struct {
	work   func(in string)
	shapes map[string]shape
}

// times repeats a unit.
func times(unit string) shape {
	return func(n int) string { return strings.Repeat(unit, n/len(unit)+1) }
}

// around puts something before and behind.
func around(before string, middle shape, after string) shape {
	return func(n int) string { return before + middle(n) + after }
}

// nested is an opening and a closing for each level.
func nested(open, middle, closing string) shape {
	return func(n int) string {
		levels := n/(len(open)+len(closing)) + 1
		return strings.Repeat(open, levels) + middle + strings.Repeat(closing, levels)
	}
}

// counted repeats a unit with its number.
func counted(form string) shape {
	return func(n int) string {
		var b strings.Builder
		for i := 0; b.Len() < n; i++ {
			fmt.Fprintf(&b, form, i)
		}
		return b.String()
	}
}

const huge = 1 << 30

func message(in string) {
	p := mime.NewParser(mime.Limits{
		Depth: huge, Parts: huge, HeaderBytes: huge, HeaderFields: huge, TotalBytes: huge, Addresses: huge, AddressBytes: huge, References: huge, PlainBytes: huge, HTMLBytes: huge,
	})
	_, _ = io.WriteString(p, in)
	p.Finish()
}

// usual is a message as the server parses it, within its limits.
func usual(in string) {
	p := mime.NewParser(mime.DefaultLimits())
	_, _ = io.WriteString(p, in)
	p.Finish()
}

func decoding(encoding string) func(string) {
	return func(in string) {
		_, _ = io.Copy(io.Discard, mime.NewDecoder(encoding, strings.NewReader(in)))
	}
}

// command reads the arguments of a command of IMAP, with no limits.
func command(read func(d *imap.Decoder)) func(string) {
	return func(in string) {
		d := imap.NewDecoder(bufio.NewReader(strings.NewReader(in+"\r\n")), imap.Limits{Line: huge, String: huge, Strings: huge, Discard: huge, Depth: 1000, Keys: huge})
		d.Begin()
		read(d)
		_ = d.Skip()
	}
}

// arg is a command with one argument.
func arg[T any](read func(*imap.Decoder, *T) bool) func(string) {
	return command(func(d *imap.Decoder) {
		var out T
		read(d, &out)
	})
}

func lines(max int) func(string) {
	return func(in string) {
		r := bufio.NewReader(strings.NewReader(in))
		for {
			if _, err := smtp.ReadLine(r, max); err != nil {
				return
			}
		}
	}
}

var messages = map[string]shape{
	"text":            times("Some words of a message.\r\n"),
	"no line ends":    times("a"),
	"line ends":       times("\r\n"),
	"fields":          around("", times("X: y\r\n"), "\r\n"),
	"field names":     around("", counted("X%d: y\r\n"), "\r\n"),
	"one long field":  around("Subject: ", times("words "), "\r\n\r\n"),
	"folds":           around("Subject: x\r\n", times(" y\r\n"), "\r\n"),
	"encoded words":   around("Subject: ", times("=?utf-8?q?=C3=BC?= "), "\r\n\r\n"),
	"half words":      around("Subject: ", times("=?utf-8?q?"), "\r\n\r\n"),
	"addresses":       around("To: ", times("\"x\" <a@example.org>, "), "\r\n\r\n"),
	"comments":        around("To: ", times("("), "\r\n\r\n"),
	"groups":          around("To: ", times("x:"), "\r\n\r\n"),
	"quotes":          around("To: ", times("\"\\\" "), "\r\n\r\n"),
	"references":      around("References: ", counted("<%d@example.org> "), "\r\n\r\n"),
	"parameters":      around("Content-Type: text/plain", counted("; p%d=x"), "\r\n\r\n"),
	"pieces":          around("Content-Type: text/plain", counted("; name*%d=x"), "\r\n\r\n"),
	"parts":           around("Content-Type: multipart/mixed; boundary=x\r\n\r\n", times("--x\r\n\r\ny\r\n"), "--x--\r\n"),
	"nested parts":    counted("Content-Type: multipart/mixed; boundary=b%[1]d\r\n\r\n--b%[1]d\r\n"),
	"nested messages": times("Content-Type: message/rfc822\r\n\r\n"),
	"almost ends":     around("Content-Type: multipart/mixed; boundary="+strings.Repeat("x", 60)+"\r\n\r\n", times("--"+strings.Repeat("x", 59)+"\r\n"), ""),
	"html":            around("Content-Type: text/html\r\n\r\n", times("<b>x"), ""),
	"html attributes": around("Content-Type: text/html\r\n\r\n<a x=\"", times("y"), "\">"),
	"html entities":   around("Content-Type: text/html\r\n\r\n", times("&a"), ""),
	"html comments":   around("Content-Type: text/html\r\n\r\n", times("<!--"), ""),
}

var parsers = map[string]parser{
	"mime, without limits": {message, without(messages, "nested parts", "nested messages")},
	"mime":                 {usual, messages},
	"mime.DecodeWords": {func(in string) { mime.DecodeWords(in) }, map[string]shape{
		"words": times("=?utf-8?b?w7w=?= "), "no ends": times("=?utf-8?q?"), "nothing": times("=?"), "spaces": times("=?x?q?a?=" + strings.Repeat(" ", 50)), "marks": times("?="),
	}},
	"mime.BaseSubject":      {func(in string) { mime.BaseSubject(in) }, map[string]shape{"replies": times("Re: "), "lists": times("[x]"), "forwards": nested("[fwd: ", "x", "]"), "ends": times("(fwd)"), "mixed": times("Re[2]: [a] ")}},
	"mime.ParseMessageIDs":  {func(in string) { mime.ParseMessageIDs(in, huge) }, map[string]shape{"ids": times("<a@b> "), "opens": times("<"), "comments": times("(<a@b>"), "quotes": times("<\"a")}},
	"mime.ParseDate":        {func(in string) { mime.ParseDate(in) }, map[string]shape{"comments": around("1 Jan 2026 ", times("("), ""), "spaces": times(" "), "digits": times("1"), "zones": around("1 Jan 2026 00:00:00 ", times("(a) "), "+0000")}},
	"mime.HTMLText":         {func(in string) { mime.HTMLText(in) }, map[string]shape{"tags": times("<b>"), "opens": times("<"), "comments": times("<!--"), "entities": times("&"), "scripts": times("<script>"), "styles": times("<style></style"), "quotes": times("<a x='")}},
	"mime.FilterHeader":     {func(in string) { mime.FilterHeader([]byte(in), []string{"Subject", "From"}, false) }, map[string]shape{"fields": times("Subject: x\r\n"), "folds": times("Subject: x\r\n y\r\n"), "none": times("x\r\n")}},
	"mime.Filenames":        {func(in string) { mime.Filenames([]byte(in)) }, map[string]shape{"parentheses": nested("(", "", ")"), "strings": times("(\"a\" \"b\") ")}},
	"mime.BasicStructure":   {func(in string) { mime.BasicStructure([]byte(in)) }, map[string]shape{"parentheses": nested("(", "", ")"), "strings": times("(\"a\" \"b\") ")}},
	"mime base64":           {decoding("base64"), map[string]shape{"right": times("aGVsbG8gd29ybGQh\r\n"), "junk": times("!!!!"), "padding": times("a==="), "line ends": times("\r\n")}},
	"mime quoted-printable": {decoding("quoted-printable"), map[string]shape{"escapes": times("=3D"), "lone": times("="), "spaces": times("x" + strings.Repeat(" ", 60) + "\r\n"), "only spaces": times(" "), "soft": times("=\r\n")}},

	"imap set":         {arg((*imap.Decoder).ExpectSeqSet), map[string]shape{"numbers": around("1", times(",1"), ""), "rising": around("1", counted(",%d1"), ""), "ranges": around("1:*", times(",1:*"), ""), "falling": around("9:1", times(",4000000000:1"), "")}},
	"imap search":      {arg((*imap.Decoder).ExpectSearch), map[string]shape{"keys": around(" ", times("SEEN "), "SEEN"), "or": around(" ", times("OR SEEN "), "SEEN"), "not": around(" ", times("NOT "), "SEEN"), "lists": nested("(", "SEEN", ")"), "texts": around(" ", times("TEXT \"abc\" "), "ALL"), "sets": around(" ", times("1:* "), "ALL")}},
	"imap fetch":       {arg((*imap.Decoder).ExpectFetch), map[string]shape{"items": around(" 1 (", times("UID "), "UID)"), "bodies": around(" 1 (", times("BODY.PEEK[] "), "UID)"), "fields": around(" 1 BODY.PEEK[HEADER.FIELDS (", times("a "), "a)]"), "section": around(" 1 BODY[1", times(".1"), "]")}},
	"imap store":       {arg((*imap.Decoder).ExpectStore), map[string]shape{"flags": around(" 1 FLAGS (", times("a "), "a)"), "keywords": around(" 1 FLAGS (", counted("k%d "), "a)")}},
	"imap string":      {arg((*imap.Decoder).ExpectString), map[string]shape{"quoted": around("\"", times("a"), "\""), "escapes": around("\"", times(`\"`), "\"")}},
	"imap mailbox":     {arg((*imap.Decoder).ExpectMailbox), map[string]shape{"name": times("a"), "levels": times("a/"), "utf-7": times("&APw-"), "shifts": times("&-")}},
	"imap list":        {arg((*imap.Decoder).ExpectListCommand), map[string]shape{"patterns": around(" \"\" (", times("a% "), "b)"), "stars": around(" \"\" ", times("*"), "")}},
	"imap notify":      {arg((*imap.Decoder).ExpectNotify), map[string]shape{"groups": around(" SET ", times("(personal (MessageNew MessageExpunge)) "), "(inboxes NONE)"), "nested": nested("(", "", ")"), "names": around(" SET (mailboxes (", times("a "), "b) (MessageNew MessageExpunge))")}},
	"imap id":          {arg((*imap.Decoder).ExpectID), map[string]shape{"fields": around(" (", times("\"a\" \"b\" "), "\"c\" \"d\")"), "nested": nested("(", "", ")")}},
	"imap metadata":    {command(func(d *imap.Decoder) { var m imap.SetMetadata; d.ExpectSetMetadata(&m, huge) }), map[string]shape{"entries": around(" a (", times("/private/x \"y\" "), "/private/z NIL)")}},
	"imap urls":        {arg((*imap.Decoder).ExpectURLFetch), map[string]shape{"urls": around("", times(" imap://a@b/c;uid=1;urlauth=anonymous:internal:00"), "")}},
	"imap acl":         {arg((*imap.Decoder).ExpectSetACL), map[string]shape{"rights": around(" a b +", times("l"), "")}},
	"imap sort":        {arg((*imap.Decoder).ExpectSort), map[string]shape{"keys": around(" (", times("REVERSE DATE "), "DATE) UTF-8 ALL")}},
	"imap thread":      {arg((*imap.Decoder).ExpectThread), map[string]shape{"keys": around(" REFERENCES UTF-8 ", times("SEEN "), "ALL")}},
	"imap skip":        {command(func(*imap.Decoder) {}), map[string]shape{"text": times("a"), "braces": times("{1}"), "literals": times("{1+}\r\na")}},
	"imap utf-7":       {func(in string) { _, _ = imap.DecodeUTF7(in) }, map[string]shape{"words": times("&APw-"), "long": around("&", times("APwA"), "-"), "shifts": times("&"), "plain": times("a&-")}},
	"imap utf-7, made": {func(in string) { imap.EncodeUTF7(in) }, map[string]shape{"umlauts": times("ü"), "mixed": times("aü"), "shifts": times("&")}},
	"imap fold":        {func(in string) { imap.Fold(in) }, map[string]shape{"letters": times("aÄß"), "marks": around("a", times("\u0301"), ""), "bad": times("\xff")}},
	"imap languages":   {func(in string) { imap.LookUpLanguage([]string{"de", "en"}, in) }, map[string]shape{"subtags": times("a-")}},

	"smtp lines": {lines(1000), map[string]shape{"short": times("NOOP\r\n"), "long": around("", times("a"), "\r\n"), "bare": times("\r"), "feeds": times("\n")}},
	"smtp MAIL":  {func(in string) { smtp.ParseMail(in, true) }, map[string]shape{"local part": around("FROM:<", times("a"), "@example.org>"), "labels": around("FROM:<a@", times("b."), "org>"), "quotes": around("FROM:<\"", times("\\a"), "\"@example.org>"), "route": around("FROM:<@a", times(",@a"), ":x@y>"), "parameters": around("FROM:<>", times(" A=b"), ""), "xtext": around("FROM:<> ENVID=", times("+2B"), "")}},
	"smtp data": {func(in string) {
		r := smtp.NewDataReader(bufio.NewReader(strings.NewReader(in+"\r\n.\r\n")), smtp.DataOptions{Normalise: true})
		_, _ = io.Copy(io.Discard, r)
	}, map[string]shape{"text": times("words\r\n"), "dots": times(".\r\n"), "dots twice": times("..\r\n"), "bare": times("\n.\n"), "returns": times("\r"), "no line ends": times("a")}},
	"smtp reply": {func(in string) { _, _ = smtp.ReadReply(bufio.NewReader(strings.NewReader(in))) }, map[string]shape{"lines": around("", times("250-a\r\n"), "250 b\r\n"), "one": around("250 ", times("a"), "\r\n")}},

	"sasl.Decode":          {func(in string) { _, _ = sasl.Decode([]byte(in)) }, map[string]shape{"right": times("aaaa"), "wrong": times("=")}},
	"sasl.PreparePassword": {func(in string) { _, _ = sasl.PreparePassword(in) }, map[string]shape{"letters": times("aü"), "marks": around("a", times("\u0301"), ""), "spaces": times("\u00a0")}},

	"mail.ParseAddress": {func(in string) { _, _ = mail.ParseAddress(in) }, map[string]shape{"local part": around("", times("a"), "@b"), "labels": around("a@", times("b."), "c"), "quotes": around("\"", times("\\a"), "\"@b"), "ats": times("@")}},
	"conf":              {func(in string) { _, _ = conf.Parse("martlet.toml", []byte(in)) }, map[string]shape{"keys": counted("k%d = 1\n"), "tables": counted("[t%d]\n"), "listeners": times("[[listen]]\nprotocol = \"imap\"\naddress = \":0\"\n"), "comments": times("# x\n")}},
}

// size is that of the smallest input: a command's, or a message's.
func size(name string) int {
	if name == "mime, without limits" {
		return 16 << 10 // 25,000 parts no cache holds
	}
	if strings.HasPrefix(name, "mime") || strings.HasPrefix(name, "smtp data") {
		return 64 << 10
	}
	return 8 << 10
}

func without(all map[string]shape, names ...string) map[string]shape {
	some := map[string]shape{}
	for name, s := range all {
		some[name] = s
	}
	for _, name := range names {
		delete(some, name)
	}
	return some
}

func TestParsers(t *testing.T) {
	shapes := 0
	for name, p := range parsers {
		for about, s := range p.shapes {
			probe.Linear(t, name+", "+about, size(name), s, p.work)
			shapes++
		}
	}
	t.Logf("%d parsers on %d kinds of input", len(parsers), shapes)
}
