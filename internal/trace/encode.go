package trace

import (
	"encoding/json"
	"strconv"
	"time"
)

// appendEvent appends e as json.Marshal writes it. It is done by hand because every delivery
// waits for it: reflection took several times as long.
func appendEvent(b []byte, e *Event) []byte {
	b = append(b, `{"at":"`...)
	b = e.At.AppendFormat(b, time.RFC3339Nano)
	b = append(b, '"')
	b = text(b, "event", string(e.What))
	for _, f := range [...]struct{ name, value string }{
		{"id", e.ID}, {"queue_id", e.Queue}, {"message_id", e.MessageID}, {"from", e.From}, {"author", e.Author},
		{"subject", e.Subject}, {"login", e.Login}, {"peer", e.Peer}, {"helo", e.Helo}, {"protocol", e.Protocol}, {"tls", e.TLS},
	} {
		b = text(b, f.name, f.value)
	}
	b = number(b, "bytes", e.Size)
	b = text(b, "verdict", e.Verdict)
	b = text(b, "action", e.Action)
	b = text(b, "signed", e.Signed)
	b = number(b, "attempts", int64(e.Attempts))
	b = number(b, "code", int64(e.Code))
	b = text(b, "enhanced", e.Enhanced)
	b = text(b, "text", e.Text)
	for i := range e.To {
		if i == 0 {
			b = append(b, `,"recipients":[`...)
		} else {
			b = append(b, ',')
		}
		b = appendRecipient(b, &e.To[i])
	}
	if len(e.To) > 0 {
		b = append(b, ']')
	}
	b = number(b, "more_recipients", int64(e.More))
	return append(b, '}')
}

func appendRecipient(b []byte, r *Recipient) []byte {
	b = quoted(append(b, `{"address":`...), r.Address)
	b = text(b, "for", r.For)
	b = quoted(append(b, `,"state":`...), string(r.State))
	b = text(b, "mailbox", r.Mailbox)
	b = text(b, "queue_id", r.Queue)
	b = number(b, "code", int64(r.Code))
	for _, f := range [...]struct{ name, value string }{
		{"enhanced", r.Enhanced}, {"text", r.Text}, {"host", r.Host}, {"host_address", r.At}, {"tls", r.TLS},
	} {
		b = text(b, f.name, f.value)
	}
	if r.Next != nil {
		b = append(b, `,"next_attempt":"`...)
		b = append(r.Next.AppendFormat(b, time.RFC3339Nano), '"')
	}
	return append(b, '}')
}

// text appends a member, if there is something in it.
func text(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(append(append(b, `,"`...), name...), `":`...)
	return quoted(b, value)
}

func number(b []byte, name string, value int64) []byte {
	if value == 0 {
		return b
	}
	b = append(append(append(b, `,"`...), name...), `":`...)
	return strconv.AppendInt(b, value, 10)
}

// quoted appends a string. Most are plain.
func quoted(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			long, _ := json.Marshal(s) // a string has no fault
			return append(b, long...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
