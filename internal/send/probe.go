package send

import (
	"context"
	"strings"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/syntax/smtp"
)

// Probe asks a domain's hosts whether they would take mail for an address, and sends none:
// it ends the transaction after RCPT (RFC 5321, 4.1.1.5). The sender it gives is nobody.
// A host's 5xx is one about the address: what else it has against us is made temporary.
func (c *Courier) Probe(ctx context.Context, to mail.Address) Result {
	ctx, cancel := context.WithTimeout(ctx, c.opt.Timeouts.Connect+c.opt.Timeouts.Connect)
	defer cancel()
	j := &job{env: mail.Envelope{To: []mail.Recipient{{Address: to}}}, open: []int{0}, results: make([]Result, 1), domain: to.Domain, probe: true}
	j.results[0] = ours(451, "4.3.0", "nobody could be asked").Result
	c.run(ctx, j)
	return j.results[0]
}

// refusedBy is a peer's answer to MAIL, or to RCPT, that is not the hoped-for one. A host
// that is only asked may have something against us or the sender, which says nothing of the
// recipient.
func (s *session) refusedBy(j *job, rep *smtp.Reply, rcpt bool) *refusal {
	if j.probe && rep.Code/100 == 5 && !(rcpt && ofAddress(rep)) {
		return s.softened(rep)
	}
	return s.refused(rep)
}

// ofAddress tells whether an answer to RCPT says that there is no such address (RFC 3463,
// 3.2, without what is about the sender; RFC 5321, 4.2.3).
func ofAddress(rep *smtp.Reply) bool {
	switch rep.Enhanced {
	case "":
		return rep.Code == 550
	case "5.1.7", "5.1.8":
		return false
	}
	return strings.HasPrefix(rep.Enhanced, "5.1.")
}
