package trace

// Most of what strangers write may be long without end. These are bytes of one string; what
// is longer is cut. An event of the longest strings that there can be is shorter than maxLine.
const (
	longest       = 300 // of an address, a name or an answer
	longestFinder = 2000
)

// bound cuts what is too long.
func (e *Event) bound() {
	for _, s := range [...]*string{&e.ID, &e.Queue, &e.MessageID, &e.From, &e.Author, &e.Subject, &e.Login, &e.Peer, &e.Helo, &e.Protocol, &e.TLS, &e.Signed, &e.Enhanced, &e.Text} {
		*s = cut(*s, longest)
	}
	e.Verdict, e.Action = cut(e.Verdict, longestFinder), cut(e.Action, longestFinder)
	bounded := true
	for i := range e.To {
		bounded = bounded && e.To[i].short()
	}
	if bounded { // nearly always
		return
	}
	e.To = append([]Recipient(nil), e.To...) // they are the caller's
	for i := range e.To {
		r := &e.To[i]
		for _, s := range r.strings() {
			*s = cut(*s, longest)
		}
	}
}

func (r *Recipient) strings() [9]*string {
	return [...]*string{&r.Address, &r.For, &r.Mailbox, &r.Queue, &r.Enhanced, &r.Text, &r.Host, &r.At, &r.TLS}
}

func (r *Recipient) short() bool {
	for _, s := range r.strings() {
		if len(*s) > longest {
			return false
		}
	}
	return true
}

// cut returns the beginning of a string, of at most so many bytes, without half a character.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	n := most
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}
