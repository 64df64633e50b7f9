package store

import (
	"bytes"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// URLKeySize is the length of a mailbox access key in bytes.
const URLKeySize = 32

// URLKey returns the key by which URLs of a user are signed that lead into a mailbox,
// nil if there is none (RFC 4467, 2.2).
func (s *Snapshot) URLKey(box mail.MailboxID, user mail.AccountID) ([]byte, error) {
	v, ok, err := s.r.Get(engine.Key(famURLKey, uint64(box), uint64(user)))
	if err != nil || !ok {
		return nil, err
	}
	p, err := unseal(recURLKey, v)
	return bytes.Clone(p), err
}

// SetURLKey gives a user a new key for a mailbox; URLs signed by the old one are void.
// Faults: NotFound; Internal for a key of another length than URLKeySize.
func (tx *Tx) SetURLKey(box mail.MailboxID, user mail.AccountID, key []byte) error {
	if _, err := tx.open(box); err != nil {
		return err
	}
	if len(key) != URLKeySize {
		return fault.Newf(fault.Internal, "a mailbox access key of %d bytes", len(key))
	}
	tx.acctDirty = true
	return tx.w.Put(engine.Key(famURLKey, uint64(box), uint64(user)), seal(recURLKey, key))
}

// DropURLKeys takes all keys of a user in this account away.
func (tx *Tx) DropURLKeys(user mail.AccountID) error {
	var keys [][]byte
	err := tx.w.Scan([]byte{famURLKey}, []byte{famURLKey + 1}, false, func(k, _ []byte) bool {
		if mail.AccountID(keyNum(k, 1)) == user {
			keys = append(keys, bytes.Clone(k))
		}
		return true
	})
	for i := 0; err == nil && i < len(keys); i++ {
		tx.acctDirty = true
		err = tx.w.Delete(keys[i])
	}
	return err
}

// dropURLKeysOf takes the keys of a mailbox away that is deleted.
func (tx *Tx) dropURLKeysOf(box mail.MailboxID) error {
	from, to := engine.Key(famURLKey, uint64(box)), engine.Key(famURLKey, uint64(box)+1)
	any := false
	err := tx.w.Scan(from, to, false, func(_, _ []byte) bool { any = true; return false })
	if err != nil || !any {
		return err
	}
	return tx.w.DeleteRange(from, to)
}
