package imapd

import (
	"bytes"
	"context"
	"io"
	"strconv"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// maxPartHeader bounds the header of a part whose label is changed; a part with a longer
// one stays encoded.
const maxPartHeader = 64 << 10

// unwrapper copies a message that is a part of another so that nothing in it is encoded
// (RFC 5524, 3.1): its leaves are decoded and labelled binary. What is signed or
// encrypted stays as it is.
type unwrapper struct {
	r     io.Reader
	at    int64       // place of r in the whole message
	w     io.Writer   // which counts into total, too
	total decodedPart // all that was written
	fewer int64       // lines less than there were
	did   map[*mime.Part]*decodedPart
}

// unwrap copies the message that is a part to w and returns what became of the parts in
// it; the part itself stands for the whole.
func (p *pointed) unwrap(ctx context.Context, part *mime.Part, w io.Writer) (map[*mime.Part]*decodedPart, error) {
	r, err := p.acct.Open(ctx, p.ld.m.ID, p.off, p.n)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	u := unwrapper{r: r, at: p.off, did: map[*mime.Part]*decodedPart{}}
	u.w = io.MultiWriter(&u.total, w)
	if err := u.part(part); err != nil {
		return nil, err
	}
	if err := u.copyTo(p.off + p.n); err != nil {
		return nil, err
	}
	u.total.known = true
	u.did[part] = &u.total
	return u.did, nil
}

func (u *unwrapper) copyTo(place int64) error {
	n, err := io.CopyN(u.w, u.r, place-u.at)
	u.at += n
	if err == io.EOF {
		err = fault.New(fault.Corrupt, "a message is shorter than it should be")
	}
	return err
}

func (u *unwrapper) part(p *mime.Part) error {
	if p.IsMultipart() && (p.Subtype == "signed" || p.Subtype == "encrypted") {
		return nil
	}
	start, before := u.total.whole+p.Body-u.at, u.fewer
	for _, child := range p.Children {
		if err := u.part(child); err != nil {
			return err
		}
	}
	switch {
	case p.IsMessage():
		u.did[p] = &decodedPart{known: true, whole: u.total.whole + p.End - u.at - start, lines: p.Lines - u.fewer + before}
	case len(p.Children) > 0 || p.Encoding != "base64" && p.Encoding != "quoted-printable" || p.Body-p.Header > maxPartHeader:
	default:
		return u.leaf(p)
	}
	return nil
}

func (u *unwrapper) leaf(p *mime.Part) error {
	if err := u.copyTo(p.Header); err != nil {
		return err
	}
	head := make([]byte, p.Body-p.Header)
	if _, err := io.ReadFull(u.r, head); err != nil {
		return fault.Wrap(fault.Corrupt, "a message is shorter than it should be", err)
	}
	now := labelled(head)
	if _, err := u.w.Write(now); err != nil {
		return err
	}
	raw := &io.LimitedReader{R: u.r, N: p.Size()}
	plain, err := mime.BinaryDecoder(p.Encoding, raw)
	if err != nil {
		return err
	}
	d := &decodedPart{known: true}
	if _, err := io.Copy(io.MultiWriter(d, u.w), plain); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, raw); err != nil {
		return err
	}
	u.at, u.did[p] = p.End, d
	u.fewer += p.Lines - d.lines + int64(bytes.Count(head, []byte{'\n'})-bytes.Count(now, []byte{'\n'}))
	return nil
}

// labelled returns a header with Content-Transfer-Encoding set to binary.
func labelled(head []byte) []byte {
	const name = "content-transfer-encoding:"
	var out []byte
	inside := false
	for line := range bytes.Lines(head) {
		if folded := line[0] == ' ' || line[0] == '\t'; inside && folded {
			continue
		}
		if inside = len(line) >= len(name) && bytes.EqualFold(line[:len(name)], []byte(name)); inside {
			end := "\r\n"
			if !bytes.HasSuffix(line, []byte("\r\n")) {
				end = "\n"
			}
			out = append(append(out, line[:len(name)]...), " binary"+end...)
			continue
		}
		out = append(out, line...)
	}
	return out
}

// unwrappedStructure returns the structure of a part in which some were decoded.
func unwrappedStructure(wire []byte, p *mime.Part, did map[*mime.Part]*decodedPart) []byte {
	e := elements(wire)
	switch d := did[p]; {
	case p.IsMultipart() && len(e) > len(p.Children):
		out := []byte{'('}
		for i, child := range p.Children {
			out = append(out, unwrappedStructure(e[i], child, did)...)
		}
		return append(append(append(out, ' '), bytes.Join(e[len(p.Children):], []byte(" "))...), ')')
	case p.IsMessage() && d != nil && len(e) > atBody+1:
		e[atSize] = strconv.AppendInt(nil, d.whole, 10)
		e[atBody] = unwrappedStructure(e[atBody], p.Children[0], did)
		e[atBody+1] = strconv.AppendInt(nil, d.lines, 10)
		return append(append([]byte{'('}, bytes.Join(e, []byte(" "))...), ')')
	case d != nil:
		return decodedStructure(wire, d.whole, d.lines)
	}
	return wire
}

// structure returns the structure of what was decoded.
func (d *decodedPart) structure(wire []byte, p *pointed) []byte {
	if m := p.message(); m != nil && wire != nil {
		return unwrappedStructure(wire, m, d.parts)
	}
	return decodedStructure(wire, d.whole, d.lines)
}
