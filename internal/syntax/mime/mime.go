// Package mime reads stored mail: one pass over the bytes gives the part tree with
// byte offsets, the IMAP ENVELOPE and BODYSTRUCTURE in wire form, sort and thread
// keys, a preview, and what an SMTP client must know about the bytes. It also
// decodes what those offsets point at: transfer encodings, charsets, encoded words,
// addresses, dates.
//
// It never fails: a broken message gets the best structure its bytes allow, and no
// byte is lost from the offsets. Memory is bounded by Limits whatever the size of
// the message, and time is linear in it.
//
// It can write a message again with other transfer encodings, for a road that cannot
// carry it as it is.
//
// It does no I/O, keeps no message bodies, makes no messages, renders no HTML and
// judges nobody (more than one From is the business of the checks).
//
// How broken mail is read:
//   - A line ends with LF; the CR before it belongs to the line ending. A bare CR
//     is an ordinary byte.
//   - A header ends at the first empty line, at a delimiter of an enclosing
//     multipart, or at the end of the message. A line that is no field is skipped.
//   - Of fields that may stand once, the first counts; To, Cc and Bcc add up.
//   - A delimiter line is "--" and the boundary, then "--" or nothing, then white
//     space or nothing. The innermost multipart with that boundary takes it, so a
//     child with its parent's boundary swallows the lines up to the first close.
//   - A missing close delimiter is made up for by the delimiter of any multipart
//     further out, or by the end of the message.
//   - A Content-Type that cannot be read is text/plain.
//   - A multipart without a usable boundary, or in which no delimiter was found, is
//     one text/plain part that holds all of its bytes, so that a person can read
//     them. (Dovecot invents an empty part in the second case.)
//   - message/rfc822 and message/global with a transfer encoding other than 7bit,
//     8bit and binary, and any multipart or message at Limits.Depth, are
//     application/octet-stream: IMAP could show their parts only decoded.
//   - Past Limits.Parts the rest of each open multipart is one
//     application/octet-stream part without a header.
//
// IMAP4rev1 knows no message/global in BODYSTRUCTURE; it is shown as in IMAP4rev2.
//
// RFC 5322 and 2822 (messages), RFC 2045 to 2047, 2231, 2183, 3282, 2557, 1864
// (MIME), RFC 6532 (UTF-8 headers), RFC 9051 and 3501 (envelope, body structure,
// part numbers), RFC 5256 (base subject, message ids), RFC 8970 (preview), RFC 6152
// and 3030 (conversion for the next host), RFC 1847 (what must not be converted).
package mime

import "time"

// Limits bound what the Parser keeps. A zero or negative field takes the value of
// DefaultLimits.
type Limits struct {
	Depth        int // part nesting, the root being 1; deeper is opaque
	Parts        int // parts of one message; the rest is opaque
	HeaderBytes  int // bytes of one part's header that are analysed
	HeaderFields int // fields of one part's header that are analysed
	TotalBytes   int // bytes of field values kept for the whole message
	Addresses    int // addresses kept of one field
	AddressBytes int // bytes of one address list in the envelope's wire form
	References   int // message ids kept of References and of In-Reply-To
	PlainBytes   int // encoded bytes of text/plain read for the preview
	HTMLBytes    int // encoded bytes of text/html read for the preview
}

// DefaultLimits returns the limits a server should use.
func DefaultLimits() Limits {
	return Limits{
		Depth:        100,
		Parts:        10_000,
		HeaderBytes:  256 << 10,
		HeaderFields: 10_000,
		TotalBytes:   1 << 20,
		Addresses:    1_000,
		AddressBytes: 32 << 10,
		References:   100,
		PlainBytes:   8 << 10,
		HTMLBytes:    64 << 10,
	}
}

func (l Limits) orDefaults() Limits {
	d := DefaultLimits()
	for _, f := range []struct {
		have *int
		want int
	}{
		{&l.Depth, d.Depth}, {&l.Parts, d.Parts}, {&l.HeaderBytes, d.HeaderBytes},
		{&l.HeaderFields, d.HeaderFields}, {&l.TotalBytes, d.TotalBytes},
		{&l.Addresses, d.Addresses}, {&l.AddressBytes, d.AddressBytes},
		{&l.References, d.References}, {&l.PlainBytes, d.PlainBytes}, {&l.HTMLBytes, d.HTMLBytes},
	} {
		if *f.have <= 0 {
			*f.have = f.want
		}
	}
	return l
}

const (
	maxBoundary = 1024 // bytes; a longer boundary is none
	maxToken    = 127  // bytes of a type, subtype, encoding or charset
	maxParams   = 256  // parameters read of one field
	maxMsgID    = 1024 // bytes; a longer message id is dropped
	previewLen  = 200  // characters (RFC 8970, 3.1)
)

// Message is what one pass over a message found.
type Message struct {
	Size       int64 // bytes of the message
	HeaderSize int64 // bytes up to and with the empty line after the top header; Size if there is none
	Root       *Part

	// Envelope is the IMAP ENVELOPE, ready to send (RFC 9051, 7.5.2). Strings are
	// quoted where they are 7-bit without control bytes, literals otherwise; NUL is
	// left out, as IMAP has no way to say it. Encoded words stay as they are. Each
	// address list stops at Limits.Addresses or Limits.AddressBytes.
	Envelope []byte
	// BodyStructure is the IMAP BODYSTRUCTURE with extension data, ready to send.
	BodyStructure []byte

	Subject     string // decoded
	BaseSubject string // RFC 5256, 2.1
	IsReply     bool   // the base subject lost a reply or forward mark

	// Address lists, decoded, without group marks, at most Limits.Addresses each.
	From, Sender, ReplyTo, To, Cc, Bcc []Address

	// What these fields begin with in the ENVELOPE: the first address or, with its name
	// as the Mailbox and nothing else, a group. Messages are sorted by it (RFC 5256, 3;
	// RFC 5957, 3).
	FirstFrom, FirstTo, FirstCc Address

	Date time.Time // Date field; zero if absent or impossible

	// Message ids without <>, quotes taken off (RFC 5256, 3), at most 1 KB each. Of
	// more References than the limit the first and the last ones are kept.
	MessageID  string
	InReplyTo  []string
	References []string

	Preview       string // RFC 8970: at most 200 characters of valid UTF-8 without line breaks
	HasAttachment bool

	Has8Bit       bool // any byte >= 0x80
	HasNUL        bool
	HasBareCR     bool // a CR without LF after it
	HasBareLF     bool // a LF without CR before it
	HeaderHas8Bit bool // a byte >= 0x80 in the header of the message or of a part
	LongestLine   int  // bytes, without the line ending
}

// Address is one mailbox of an address field, decoded to UTF-8. Name is the display
// name or, in the old style, the comment after the address; any of the three may be
// empty in broken mail.
type Address struct {
	Name, Mailbox, Host string
}

// Part is one node of a message: a leaf, a multipart, or a message/rfc822 or
// message/global whose only child is the inner message's root. Offsets count from
// the start of the whole message; Header <= Body <= End, and children lie inside
// [Body, End) of their parent in order.
type Part struct {
	Type, Subtype string // lower case
	Params        Params // Content-Type parameters
	ID            string // Content-ID as written
	Description   string // Content-Description as written, unfolded
	Encoding      string // Content-Transfer-Encoding in lower case; "" is 7bit
	Disposition   string // lower case; "" is none
	DispParams    Params
	Language      []string
	Location      string
	MD5           string

	Header int64 // where the part's own header starts
	Body   int64 // where its body starts
	End    int64 // where its body ends, before the line ending that belongs to a delimiter
	Lines  int64 // LF bytes in the body

	Children []*Part

	envelope  []byte // of an inner message's root, in wire form
	composite bool   // a leaf of our making: the header says multipart or message
	seen      seen
}

// IsMultipart tells whether p has numbered children of its own.
func (p *Part) IsMultipart() bool { return p.Type == "multipart" }

// IsMessage tells whether p's only child is the root of an inner message.
func (p *Part) IsMessage() bool {
	return p.Type == "message" && (p.Subtype == "rfc822" || p.Subtype == "global")
}

// Size returns the bytes of p's body as it is stored: what BODY[n] sends.
func (p *Part) Size() int64 { return p.End - p.Body }

// Charset returns the charset parameter in lower case, or "".
func (p *Part) Charset() string { return lower(clip(p.Params.Get("charset"), maxToken)) }

// Filename returns the decoded name a sender gave the part, or "". It is text for
// people: it may hold any character, path separators included.
func (p *Part) Filename() string {
	if s := p.DispParams.Get("filename"); s != "" {
		return s
	}
	return p.Params.Get("name")
}

// isAttachment tells whether a person would call the leaf p an attachment.
func (p *Part) isAttachment() bool {
	switch {
	case p.Disposition == "attachment":
		return true
	case p.Type == "application" && (p.Subtype == "pgp-signature" || p.Subtype == "pkcs7-signature" ||
		p.Subtype == "x-pkcs7-signature" || p.Subtype == "pgp-encrypted"):
		return false
	}
	return p.ID == "" && p.Filename() != ""
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

// lower is strings.ToLower for ASCII only: U+212A must not become k.
func lower(s string) string {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= 'A' && c <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if c := b[i]; c >= 'A' && c <= 'Z' {
					b[i] = c + 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}
