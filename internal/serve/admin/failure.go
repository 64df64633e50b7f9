package admin

import (
	"errors"
	"net/http"

	"github.com/martlet-mail/martlet/internal/fault"
)

// Failure is how an error crosses the socket. Whoever may open the socket may see
// causes, too.
type Failure struct {
	Error string `json:"error"`
	Kind  string `json:"kind"`
	Cause string `json:"cause,omitempty"`
}

func failureOf(err error) Failure {
	f := Failure{Error: fault.Say(err), Kind: fault.Of(err).String()}
	if e, ok := errors.AsType[*fault.Error](err); !ok {
		f.Cause = err.Error()
	} else if e.Cause != nil {
		f.Cause = e.Cause.Error()
	}
	return f
}

// Fault makes the error again.
func (f Failure) Fault() error {
	var cause error
	if f.Cause != "" {
		cause = errors.New(f.Cause)
	}
	for k := fault.Internal; k <= fault.Closed; k++ {
		if k.String() == f.Kind {
			return fault.Wrap(k, f.Error, cause)
		}
	}
	return fault.Wrap(fault.Internal, f.Error, cause)
}

func statusOf(k fault.Kind) int {
	switch k {
	case fault.Invalid:
		return http.StatusBadRequest
	case fault.Unsupported:
		return http.StatusNotImplemented
	case fault.Denied, fault.Unauthenticated:
		return http.StatusForbidden
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Exists, fault.Busy:
		return http.StatusConflict
	case fault.TooLarge:
		return http.StatusRequestEntityTooLarge
	case fault.OverQuota:
		return http.StatusInsufficientStorage
	case fault.Limited:
		return http.StatusTooManyRequests
	case fault.Unavailable, fault.Closed:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
