package mime

import (
	"encoding/binary"
	"slices"

	"github.com/martlet-mail/martlet/internal/fault"
)

// storedVersion is the first byte of the stored form. Version 1, then each part in
// preorder: type, subtype, encoding, charset (a byte: number of a known word, or
// 0xff, length byte, bytes); Header, Body, End and Lines as uvarints, the offsets as
// differences (Header from the Body of the parent or the End of the part before,
// Body from Header, End from Body); the number of children as uvarint.
const storedVersion = 1

const (
	maxStoredParts = 1 << 17
	maxStoredDepth = 1 << 10
)

// storedWords are the known words of the stored form; new ones are added at the end.
var storedWords = [...]string{
	"", "text", "plain", "html", "multipart", "mixed", "alternative", "related", "application",
	"octet-stream", "image", "jpeg", "png", "gif", "pdf", "message", "rfc822", "delivery-status",
	"7bit", "8bit", "binary", "quoted-printable", "base64", "us-ascii", "utf-8", "iso-8859-1",
	"windows-1252", "signed", "report", "pgp-signature", "calendar", "pkcs7-signature", "digest",
	"audio", "video", "global", "zip", "encrypted", "rfc822-headers", "iso-8859-15", "iso-2022-jp",
}

// AppendBinary appends the compact form of the tree to b: what FETCH of sections and
// decoding need, that is types, encodings, charsets, offsets and lines. The rest of
// a Part is not kept; it stands in the body structure. A token of over 127 bytes is
// cut.
func (p *Part) AppendBinary(b []byte) []byte {
	return p.appendBinary(append(b, storedVersion), 0)
}

func (p *Part) appendBinary(b []byte, base int64) []byte {
	for _, s := range [...]string{p.Type, p.Subtype, p.Encoding, p.Charset()} {
		b = appendWord(b, clip(s, maxToken))
	}
	for _, n := range [...]int64{p.Header - base, p.Body - p.Header, p.End - p.Body, p.Lines, int64(len(p.Children))} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	base = p.Body
	for _, c := range p.Children {
		b = c.appendBinary(b, base)
		base = c.End
	}
	return b
}

func appendWord(b []byte, s string) []byte {
	if i := slices.Index(storedWords[:], s); i >= 0 {
		return append(b, byte(i))
	}
	b = append(b, 0xff, byte(len(s)))
	return append(b, s...)
}

// ParsePart reads what AppendBinary wrote. It is safe on any bytes: what it returns
// has offsets that nest, or it fails with fault.Corrupt; memory is in proportion to
// len(b).
func ParsePart(b []byte) (*Part, error) {
	if len(b) == 0 || b[0] != storedVersion {
		return nil, fault.New(fault.Corrupt, "the stored part tree has an unknown version")
	}
	r := partReader{b: b[1:]}
	p := r.part(0, 0, 0)
	if r.bad || len(r.b) > 0 {
		return nil, fault.New(fault.Corrupt, "the stored part tree is damaged")
	}
	return p, nil
}

type partReader struct {
	b     []byte
	parts int
	bad   bool
}

// part reads one part. Its header is at base or after it; end, if not 0, is where it
// must have ended.
func (r *partReader) part(base, end int64, depth int) *Part {
	p := &Part{Type: r.word(), Subtype: r.word(), Encoding: r.word()}
	if cs := r.word(); cs != "" {
		p.Params = Params{{Name: "charset", Value: cs}}
	}
	p.Header = base + r.int()
	p.Body = p.Header + r.int()
	p.End = p.Body + r.int()
	p.Lines = r.int()
	n := r.int()
	r.parts++
	if p.Header < base || p.Body < p.Header || p.End < p.Body || depth > 0 && p.End > end ||
		n > int64(len(r.b)) || r.parts > maxStoredParts || depth > maxStoredDepth ||
		n > 0 && !p.IsMultipart() && !(p.IsMessage() && n == 1) || n == 0 && (p.IsMessage() || p.IsMultipart()) {
		r.bad = true
	}
	base = p.Body
	for ; n > 0 && !r.bad; n-- {
		c := r.part(base, p.End, depth+1)
		p.Children = append(p.Children, c)
		base = c.End
	}
	return p
}

func (r *partReader) word() string {
	if len(r.b) == 0 {
		r.bad = true
		return ""
	}
	n := int(r.b[0])
	r.b = r.b[1:]
	if n < len(storedWords) {
		return storedWords[n]
	}
	if n != 0xff || len(r.b) == 0 || len(r.b) <= int(r.b[0]) || r.b[0] > maxToken {
		r.bad = true
		return ""
	}
	n = int(r.b[0])
	s := string(r.b[1 : 1+n])
	r.b = r.b[1+n:]
	return s
}

func (r *partReader) int() int64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 || n > 1<<48 {
		r.bad = true
		return 0
	}
	r.b = r.b[size:]
	return int64(n)
}

// Shift moves the tree's offsets by n, because n bytes were put in front of the
// message: they are part of its header, so that the root still starts at 0.
func (p *Part) Shift(n int64) {
	p.Body += n
	p.End += n
	for _, c := range p.Children {
		c.Header += n
		c.Shift(n)
	}
}

// Find returns the part with an IMAP part number, or nil; no number is the root
// itself. The only part of a message that is no multipart has number 1; numbers
// after a message/rfc822 count the parts of the inner message (RFC 9051, 6.4.5.1).
func (p *Part) Find(path []int) *Part {
	for i, n := range path {
		if i > 0 && p.IsMessage() {
			if len(p.Children) != 1 {
				return nil
			}
			p = p.Children[0]
		} else if i > 0 && !p.IsMultipart() {
			return nil
		}
		if p.IsMultipart() {
			if n < 1 || n > len(p.Children) {
				return nil
			}
			p = p.Children[n-1]
		} else if n != 1 {
			return nil
		}
	}
	return p
}
