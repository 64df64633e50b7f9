package mime

import (
	"bytes"
	"strings"
)

// describe fills in what the header says about part and returns the boundary of a
// multipart, "" if it has none that can be used.
func (h *header) describe(part *Part, digest bool) (boundary string) {
	part.Type, part.Subtype = "text", "plain"
	if h.has[fContentType] {
		if t, sub, params, ok := parseContentType(string(h.value[fContentType])); ok {
			part.Type, part.Subtype, part.Params = t, sub, params
		}
	} else if digest {
		part.Type, part.Subtype = "message", "rfc822"
	}
	part.Encoding = firstToken(string(h.value[fEncoding]))
	part.ID = string(h.value[fID])
	part.Description = string(h.value[fDescription])
	part.Location = string(h.value[fLocation])
	part.MD5 = string(h.value[fMD5])
	if h.has[fDisposition] {
		part.Disposition, part.DispParams = parseDisposition(string(h.value[fDisposition]))
	}
	if h.has[fLanguage] {
		part.Language = parseLanguages(string(h.value[fLanguage]))
	}
	if !part.IsMultipart() {
		return ""
	}
	boundary = strings.TrimRight(part.Params.Get("boundary"), " \t\r\n")
	if len(boundary) > maxBoundary {
		return ""
	}
	return boundary
}

// encoded tells whether p's bytes must be decoded before they can be parsed.
func (p *Part) encoded() bool {
	switch p.Encoding {
	case "", "7bit", "8bit", "binary":
		return false
	}
	return true
}

// becomeText makes a multipart that has no parts one part a person can read.
func (p *Part) becomeText() {
	p.Type, p.Subtype, p.Params, p.composite = "text", "plain", nil, true
}

// becomeOpaque makes p a part nobody looks into. Its name stays.
func (p *Part) becomeOpaque() {
	p.Type, p.Subtype, p.composite = "application", "octet-stream", true
	var keep Params
	for _, q := range p.Params {
		if q.Name == "name" || q.Name == "name*" {
			keep = append(keep, q)
		}
	}
	p.Params = keep
}

// describeMessage makes the envelope of a message from its header, and for the
// whole message (not an inner one) the keys that are searched and sorted by.
func (p *Parser) describeMessage(part *Part, whole bool) {
	h := &p.head
	var lists [fBcc + 1][]mailbox
	for f := fFrom; f <= fBcc; f++ {
		if h.has[f] {
			lists[f] = parseMailboxes(string(h.value[f]), p.lim.Addresses)
		}
	}
	env := envelope{h: h, lists: lists[:], limit: p.lim.AddressBytes, room: p.lim.TotalBytes - p.wire}
	p.scratch = env.append(p.scratch[:0])
	part.envelope = bytes.Clone(p.scratch)
	p.wire += len(part.envelope)
	if !whole {
		return
	}
	m := p.msg
	m.Envelope = part.envelope
	m.From, m.Sender, m.ReplyTo = decodeMailboxes(lists[fFrom]), decodeMailboxes(lists[fSender]), decodeMailboxes(lists[fReplyTo])
	m.To, m.Cc, m.Bcc = decodeMailboxes(lists[fTo]), decodeMailboxes(lists[fCc]), decodeMailboxes(lists[fBcc])
	m.FirstFrom, m.FirstTo, m.FirstCc = firstEntry(lists[fFrom], m.From), firstEntry(lists[fTo], m.To), firstEntry(lists[fCc], m.Cc)
	m.Subject = DecodeWords(string(h.value[fSubject]))
	m.BaseSubject, m.IsReply = BaseSubject(m.Subject)
	m.Date, _ = ParseDate(string(h.value[fDate]))
	if ids := ParseMessageIDs(string(h.value[fMessageID]), 1); len(ids) > 0 {
		m.MessageID = ids[0]
	}
	m.InReplyTo = ParseMessageIDs(string(h.value[fInReplyTo]), p.lim.References)
	m.References = ParseMessageIDs(string(h.value[fReferences]), p.lim.References)
}
