"""Keys shared by the tests, since making an RSA key takes a while."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.access.builders import Pair, ec_pair, rsa_pair


@pytest.fixture(scope="session")
def rsa_keys() -> Pair:
    return rsa_pair()


@pytest.fixture(scope="session")
def other_rsa_keys() -> Pair:
    return rsa_pair()


@pytest.fixture(scope="session")
def weak_rsa_keys() -> Pair:
    return rsa_pair(1_024)


@pytest.fixture(scope="session")
def p256_keys() -> Pair:
    return ec_pair(ec.SECP256R1())


@pytest.fixture(scope="session")
def p384_keys() -> Pair:
    return ec_pair(ec.SECP384R1())


@pytest.fixture(scope="session")
def p521_keys() -> Pair:
    return ec_pair(ec.SECP521R1())
