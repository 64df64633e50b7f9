package send

import (
	"context"

	"github.com/martlet-mail/martlet/internal/mail"
)

// Probe asks a domain's hosts whether they would take mail for an address, and sends none:
// it ends the transaction after RCPT (RFC 5321, 4.1.1.5). The sender it gives is nobody.
func (c *Courier) Probe(ctx context.Context, to mail.Address) Result {
	ctx, cancel := context.WithTimeout(ctx, c.opt.Timeouts.Connect+c.opt.Timeouts.Connect)
	defer cancel()
	j := &job{env: mail.Envelope{To: []mail.Recipient{{Address: to}}}, open: []int{0}, results: make([]Result, 1), domain: to.Domain, probe: true}
	j.results[0] = ours(451, "4.3.0", "nobody could be asked").Result
	c.run(ctx, j)
	return j.results[0]
}
