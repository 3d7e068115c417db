"""Orders of certificates at an ACME server (RFC 8555), by challenges of TLS-ALPN-01. It blocks."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import requests
from acme import challenges, client, crypto_util, errors, messages
from cryptography.hazmat.primitives.asymmetric import ec
from josepy.errors import Error as JoseError
from josepy.jwa import ES256
from josepy.jwk import JWK, JWKEC
from josepy.util import ComparableECKey

from sampan.errors import Unavailable
from sampan.registryd.acme.challenge import private_pem
from sampan.registryd.acme.folder import Folder

PATIENCE = datetime.timedelta(seconds=120)  # for a server to look at proofs, and to sign
NETWORK_SECONDS = 30
AGENT = "sampan-registry"

Present = Callable[[Mapping[str, str]], None]
"""Makes key authorizations, by host, ready to be looked for; returns when they are."""


@challenges.ChallengeResponse.register
class TLSALPN01Response(challenges.KeyAuthorizationChallengeResponse):
    """Says that the proof is there. acme itself knows this kind no more."""

    typ = "tls-alpn-01"


@challenges.Challenge.register
class TLSALPN01(challenges.KeyAuthorizationChallenge):
    """Asks for the proof."""

    typ = "tls-alpn-01"
    response_cls = TLSALPN01Response

    def validation(self, account_key: JWK, **_: object) -> str:
        return self.key_authorization(account_key)


@dataclass(frozen=True)
class Account:
    """Who orders, and where."""

    directory: str
    email: str

    def order(self, folder: Folder, hosts: Sequence[str], present: Present) -> None:
        """Get a certificate for some hosts and keep it. Raises Unavailable with the reason."""
        key = private_pem(ec.generate_private_key(ec.SECP256R1()))
        try:
            chain = self._order(folder, hosts, present, key)
        except errors.ValidationError as error:
            raise Unavailable(_failed(error)) from None
        except errors.TimeoutError:
            raise Unavailable("the ACME server did not decide in time") from None
        except (
            errors.Error,
            messages.Error,
            requests.RequestException,
            JoseError,
            ValueError,
        ) as error:
            raise Unavailable(str(error)[:1000] or type(error).__name__) from None
        folder.keep(key, chain)

    def _order(self, folder: Folder, hosts: Sequence[str], present: Present, key: bytes) -> bytes:
        account = JWKEC(key=ComparableECKey(folder.account()))
        acme = self._client(account)
        order = acme.new_order(crypto_util.make_csr(key, list(hosts)))
        wanted: list[messages.ChallengeBody] = []
        proofs: dict[str, str] = {}
        for authorization in order.authorizations:
            if authorization.body.status == messages.STATUS_VALID:
                continue
            host = authorization.body.identifier.value
            challenge = _challenge(authorization)
            wanted.append(challenge)
            proofs[host] = challenge.validation(account)
        if proofs:
            present(proofs)
        for challenge in wanted:
            acme.answer_challenge(challenge, challenge.response(account))
        # The library counts in local time without a zone.
        deadline = datetime.datetime.now() + PATIENCE
        done = acme.poll_and_finalize(order, deadline)
        return str(done.fullchain_pem).encode()

    def _client(self, key: JWKEC) -> client.ClientV2:
        net = client.ClientNetwork(key, alg=ES256, user_agent=AGENT, timeout=NETWORK_SECONDS)
        acme = client.ClientV2(client.ClientV2.get_directory(self.directory, net), net)
        registration = messages.NewRegistration.from_data(
            email=self.email or None, terms_of_service_agreed=True
        )
        try:
            net.account = acme.new_account(registration)
        except errors.ConflictError as error:  # we have been here before
            net.account = messages.RegistrationResource(
                uri=error.location, body=messages.Registration()
            )
        return acme


def _challenge(authorization: messages.AuthorizationResource) -> messages.ChallengeBody:
    for body in authorization.body.challenges:
        if isinstance(body.chall, TLSALPN01):
            found: messages.ChallengeBody = body
            return found
    host = authorization.body.identifier.value
    raise Unavailable(f"the ACME server does not offer tls-alpn-01 for {host}")


def _failed(error: errors.ValidationError) -> str:
    reasons = []
    for authorization in error.failed_authzrs:
        told = [str(one.error) for one in authorization.body.challenges if one.error]
        host = authorization.body.identifier.value
        reasons.append(f"{host}: {'; '.join(told) or 'the proof was not accepted'}")
    return " ".join(reasons)[:1000]
