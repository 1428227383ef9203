"""TLS as the clients use it: which authorities they trust, and what it means where it fails."""

import ssl
from pathlib import Path
from typing import Final

# Of OpenSSL (x509_vfy.h): 18 and 19 are self-signed, of 20 and 21 nobody knows who signed them.
_UNKNOWN_AUTHORITY: Final = frozenset({18, 19, 20, 21})
# What comes back is no TLS: an answer of HTTP, as a rule.
_NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"})


def trusting(ca_file: Path) -> ssl.SSLContext:
    """Trust the certificates of this file, in PEM, in place of the usual ones. Raises ValueError where it has none."""
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise ValueError(f"{ca_file} holds no certificates in PEM") from None
    except OSError as error:
        raise ValueError(f"{ca_file} cannot be read: {error.strerror}") from None


def told(error: BaseException) -> str:
    """Why there is no connection, on one line, whichever library says so."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            advice = ": name its authority, by --ca-file or SSL_CERT_FILE"
            hint = advice if cause.verify_code in _UNKNOWN_AUTHORITY else ""
            return f"its certificate is not trusted ({cause.verify_message}){hint}"
        if isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS:
            return "it does not speak TLS there: http:// in place of https://, or another port"
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__
