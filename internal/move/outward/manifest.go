package outward

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// Form is what an export looks like.
type Form string

// The forms of a folder.
const (
	Mbox    Form = "mbox"    // a file for each mailbox
	Maildir Form = "maildir" // Maildir++, as Dovecot reads it
	EML     Form = "eml"     // a file for each message
)

// ManifestName is the file that tells what a folder holds; side is the folder of what belongs to
// it.
const (
	ManifestName = "martlet-export.json"
	side         = "martlet-export"
)

const manifestVersion = 1

// Manifest is what is known of an export as a whole. It is public: other programs read it.
type Manifest struct {
	Version       int       `json:"version"` // 1
	Form          Form      `json:"form"`
	Quoting       Quoting   `json:"quoting,omitempty"` // of mbox files
	Account       string    `json:"account"`
	Changed       time.Time `json:"changed"` // of the last export into the folder
	Complete      bool      `json:"complete"`
	Mailboxes     []Entry   `json:"mailboxes"`
	Subscriptions []string  `json:"subscriptions"` // subscribed names without a mailbox
}

// Entry is a mailbox in a Manifest.
type Entry struct {
	Mailbox     string    `json:"mailbox"`
	Role        mail.Role `json:"role,omitempty"`
	Subscribed  bool      `json:"subscribed"`
	UIDValidity uint32    `json:"uidvalidity"`
	UIDNext     mail.UID  `json:"uidnext"`
	Messages    int64     `json:"messages"`
	Bytes       int64     `json:"bytes"`          // of the messages as they are, with CRLF
	Path        string    `json:"path"`           // its file or folder
	Index       string    `json:"index"`          // lines of JSON: what is known of its messages
	Gone        bool      `json:"gone,omitempty"` // the account has no such mailbox any more
}

// ReadManifest reads the manifest of a folder; nil without an error if it has none.
func ReadManifest(d Disk) (*Manifest, error) {
	f, err := d.OpenFile(ManifestName, os.O_RDONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, ManifestName+" cannot be read", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 64<<20))
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, ManifestName+" cannot be read", err)
	}
	var m Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fault.Wrap(fault.Invalid, ManifestName+" is damaged", err)
	}
	if m.Version != manifestVersion || m.Form != Mbox && m.Form != Maildir && m.Form != EML {
		return nil, fault.Newf(fault.Unsupported, "%s is of a version (%d) or form (%q) that this program does not know", ManifestName, m.Version, m.Form)
	}
	return &m, nil
}

func (m *Manifest) write(d Disk) error {
	return writeFile(d, ManifestName, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(m)
	})
}
