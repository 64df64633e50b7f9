package mail

// Line says what protected the connection on which another host took a message, or
// refused it. The zero value is a connection in the clear.
type Line struct {
	Version  string   // "TLS 1.3"; "" for no TLS
	Cipher   string   // name in the IANA registry, "TLS_AES_128_GCM_SHA256"
	Verified Proof    // how the host proved that it is the right one
	Failure  TLSFault // what was wrong with TLS, whether or not the mail went out; "" for nothing
	Why      string   // that in words, at most 200 bytes
}

// Proof is the way in which a host proved its name.
type Proof string

const (
	Unproven  Proof = ""              // no TLS
	AnyProof  Proof = "opportunistic" // TLS with whatever certificate it showed (RFC 7435)
	ProofDANE Proof = "dane"          // by its TLSA records (RFC 7672)
	ProofSTS  Proof = "sts"           // by its domain's MTA-STS policy and the web's authorities (RFC 8461)
	ProofPKIX Proof = "pkix"          // by the web's authorities, for a name that came from DNS or the configuration
)

// TLSFault is a kind of failure, as TLS reports count them (RFC 8460, 4.3).
type TLSFault string

const (
	NoTLSFault       TLSFault = ""
	NoSTARTTLS       TLSFault = "starttls-not-supported"
	HostMismatch     TLSFault = "certificate-host-mismatch"
	Expired          TLSFault = "certificate-expired"
	NotTrusted       TLSFault = "certificate-not-trusted"
	NotValid         TLSFault = "validation-failure"
	TLSAInvalid      TLSFault = "tlsa-invalid"
	DNSSECInvalid    TLSFault = "dnssec-invalid"
	DANERequired     TLSFault = "dane-required"
	STSFetchError    TLSFault = "sts-policy-fetch-error"
	STSPolicyInvalid TLSFault = "sts-policy-invalid"
	STSWebPKIInvalid TLSFault = "sts-webpki-invalid"
)
