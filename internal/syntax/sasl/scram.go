package sasl

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/xdg-go/scram"

	"github.com/martlet-mail/martlet/internal/fault"
)

// scramMech is the server's side of SCRAM (RFC 5802, 5). The messages are read and
// the proof is checked by the scram library. What the library leaves to its caller
// is here: which binding the client asks for, the rule that a -PLUS name and a
// binding go together, the answer to a downgrade, and the authorization identity.
type scramMech struct {
	creds    Credentials
	base     string // ScramSHA1 or ScramSHA256
	plus     bool
	bindings []Binding
	nonce    func() string

	conv  *scram.ServerConversation
	who   string
	state scramState
}

type scramState uint8

const (
	scramFirst  scramState = iota // the client's first message is awaited
	scramProof                    // its final one
	scramProven                   // the empty response to our signature
)

func newScram(name string, o Offer, c Credentials) *scramMech {
	base, plus := strings.CutSuffix(name, "-PLUS")
	return &scramMech{creds: c, base: base, plus: plus, bindings: o.Bindings, nonce: o.Nonce}
}

func (*scramMech) serverFirst() []byte { return nil }
func (m *scramMech) login() string     { return m.who }

// step follows RFC 5802, 5: client-first, client-final, and then, since none of our
// protocols carries data beside success, an empty response to the server-final
// message (RFC 4422, 5).
func (m *scramMech) step(response []byte) ([]byte, bool, error) {
	if !utf8.Valid(response) {
		return nil, false, malformed("is not UTF-8")
	}
	switch m.state {
	case scramFirst:
		m.state = scramProof
		challenge, err := m.first(string(response))
		return challenge, false, err
	case scramProof:
		m.state = scramProven
		challenge, err := m.proof(string(response))
		return challenge, false, err
	}
	if len(response) != 0 {
		return nil, false, malformed("follows the end of SCRAM")
	}
	return nil, true, nil
}

// first reads the client-first message and answers with salt and iteration count.
func (m *scramMech) first(message string) ([]byte, error) {
	binding, err := m.choose(message)
	if err != nil {
		return nil, err
	}
	var lookup error
	server, err := hashOf(m.base).NewServer(func(name string) (scram.StoredCredentials, error) {
		var keys Keys
		keys, lookup = m.lookup(name, m.conv.AuthzID())
		return keys.stored(), lookup
	})
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "", err)
	}
	server.WithNonceGenerator(m.nonce)
	m.conv = server.NewConversation()
	if m.plus {
		m.conv = server.NewConversationWithChannelBindingRequired(binding)
	}
	challenge, err := m.conv.Step(message)
	switch {
	case lookup != nil:
		return nil, lookup
	case err != nil:
		return nil, fault.Wrap(fault.Invalid, "authentication response is not of the form SCRAM has", err)
	}
	return []byte(challenge), nil
}

// choose finds the binding a client-first message asks for and holds the flag of
// its GS2 header against what was offered (RFC 5802, 6 and 7).
func (m *scramMech) choose(message string) (scram.ChannelBinding, error) {
	flag, _, _ := strings.Cut(message, ",")
	kind, wants := strings.CutPrefix(flag, "p=")
	var none scram.ChannelBinding
	switch {
	case wants != m.plus:
		return none, fault.New(fault.Invalid, "channel binding and mechanism name do not go together")
	case wants:
		i := slices.IndexFunc(m.bindings, func(b Binding) bool { return b.Type == kind })
		if i < 0 {
			return none, fault.New(fault.Unsupported, "channel binding of this type is not supported")
		}
		return scram.ChannelBinding{Type: scram.ChannelBindingType(kind), Data: m.bindings[i].Data}, nil
	case flag == "y" && len(m.bindings) > 0:
		// The client knows channel binding and was made to believe that we do not.
		return none, failed(errors.New("downgrade: the -PLUS mechanisms we offered did not reach the client"))
	}
	return none, nil
}

func (m *scramMech) lookup(name, authzid string) (Keys, error) {
	name, err := prepareLogin(name)
	if err != nil {
		return Keys{}, err
	}
	m.who = name
	if err := authorized(authzid, name); err != nil {
		return Keys{}, err
	}
	return m.creds.ScramKeys(name, m.base)
}

// proof checks the client-final message and answers with our own signature.
func (m *scramMech) proof(message string) ([]byte, error) {
	challenge, cause := m.conv.Step(message)
	proven := cause == nil && m.conv.Valid()
	err := m.creds.ScramDone(m.who, proven)
	switch {
	case err != nil:
		return nil, err
	case !proven:
		return nil, failed(cause)
	}
	return []byte(challenge), nil
}

// Keys is what a server keeps of a password for one SCRAM mechanism (RFC 5802, 3).
// Who has it can check a proof, and can pose as this server, but cannot log in.
type Keys struct {
	Salt       []byte
	Iterations int
	StoredKey  []byte
	ServerKey  []byte
}

func (k Keys) stored() scram.StoredCredentials {
	return scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: string(k.Salt), Iters: k.Iterations},
		StoredKey:  k.StoredKey,
		ServerKey:  k.ServerKey,
	}
}

// DeriveKeys makes the keys of a password that went through PreparePassword.
// mechanism is ScramSHA1 or ScramSHA256. It costs two hashes per iteration.
func DeriveKeys(mechanism, password string, salt []byte, iterations int) (Keys, error) {
	hash := hashOf(mechanism)
	if hash == nil {
		return Keys{}, fault.New(fault.Unsupported, "SCRAM mechanism is not known")
	}
	client, err := hash.NewClientUnprepped("", password, "")
	if err != nil {
		return Keys{}, fault.Wrap(fault.Internal, "", err)
	}
	got, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: string(salt), Iters: iterations})
	if err != nil {
		return Keys{}, fault.Wrap(fault.Internal, "", err)
	}
	return Keys{Salt: salt, Iterations: iterations, StoredKey: got.StoredKey, ServerKey: got.ServerKey}, nil
}

// FakeKeys makes keys that no password fits, for a login that does not exist. Salt
// and keys follow from the server's secret and the login, so that asking twice, or
// after a restart, gives the same answer, as it does for a login that does exist.
// The login must be in the one form that its spellings share.
func FakeKeys(secret []byte, mechanism, login string, saltLen, iterations int) Keys {
	derive := func(what string, n int) []byte {
		var out []byte
		for i := byte(0); len(out) < n; i++ {
			mac := hmac.New(sha256.New, secret)
			mac.Write([]byte{i})
			mac.Write([]byte(what + "\x00" + mechanism + "\x00" + login))
			out = mac.Sum(out)
		}
		return out[:n]
	}
	size := sha256.Size
	if mechanism == ScramSHA1 {
		size = 20
	}
	return Keys{
		Salt:       derive("salt", saltLen),
		Iterations: iterations,
		StoredKey:  derive("stored key", size),
		ServerKey:  derive("server key", size),
	}
}

func hashOf(mechanism string) scram.HashGeneratorFcn {
	switch mechanism {
	case ScramSHA1:
		return scram.SHA1
	case ScramSHA256:
		return scram.SHA256
	}
	return nil
}
