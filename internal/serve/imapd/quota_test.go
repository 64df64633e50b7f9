package imapd

import (
	"fmt"

	"github.com/martlet-mail/martlet/internal/mail"
)

// makeAdmin lets an account set quotas.
func (w *world) makeAdmin(address string) error {
	addr, err := mail.ParseAddress(address)
	if err != nil {
		return err
	}
	account, err := w.imap.opt.Directory.Lookup(w.ctx, addr)
	if err != nil {
		return fmt.Errorf("%s: %w", address, err)
	}
	w.imap.opt.Administrator = func(id mail.AccountID) bool { return id == account.ID }
	return nil
}
