"""Approval by knock: a wish becomes a request, and an approver's knock decides on one. It must not know datagrams."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from spa_protocol.refusal import Refusal
from spa_server.announce.posting import post_requests
from spa_server.approval_table import ApprovalSettings
from spa_server.decide.context import Approval
from spa_server.decide.decision import Refused
from spa_server.remember.device import RegistryError
from spa_server.remember.requests import Request, Requests
from spa_server.tell.event_types import APPROVAL_ASKED, APPROVED, DENIED
from spa_server.tell.events import Event, happened

log = logging.getLogger("spa.approval")

LONGEST_ABOUT = 63


class Approvals:
    """The wishes of one server. `board`: where they stand for whoever tells people (`ServerConfig.notice_board`)."""

    def __init__(self, requests: Requests, settings: ApprovalSettings, board: Path | None = None) -> None:
        self._requests = requests
        self._settings = settings
        self._board = board

    def follow(self, settings: ApprovalSettings) -> None:
        """Go by other settings from now on."""
        self._settings = settings

    def approval(self, user: str, service: str, now_s: int) -> Approval:
        """Who lets the user have the service now. Raises StateError."""
        return self._requests.approval(user, service, now_s, self._settings.longest_s)

    def ask(self, user: str, device: str, service: str, now_s: int) -> int:
        """Note a wish; its number. Raises StateError."""
        request, is_new = self._requests.ask(user, device, service, now_s, self._settings.waits_s)
        if is_new:
            message = (
                f"{user} asks for {service} with {device}; to let them: spa-server request approve {request.number}"
            )
            event = Event(
                APPROVAL_ASKED,
                message,
                user=user,
                device=device,
                services=((service, 0),),
                request=request.number,
            )
            happened(log, event)
            self._post(now_s)
        return request.number

    def decide(
        self,
        by_user: str,
        by_device: str,
        number: int,
        *,
        approve: bool,
        wanted_s: int,
        now_s: int,
        may_decide: Callable[[Request], bool],
    ) -> str | Refused:
        """Approve or deny a request, by a device of a user; what to tell them. Raises StateError.

        `may_decide`: what the policy says.
        """
        try:
            request = self._requests.request(number)
        except RegistryError:
            return Refused(Refusal.NO_SUCH_REQUEST, str(number))
        if request.user == by_user or not may_decide(request):
            return Refused(Refusal.NOT_AN_APPROVER, str(number))
        until_s = self._settings.until_s(wanted_s, now_s)
        try:
            decided = self._requests.decide(number, by_user, approve=approve, until_s=until_s, now_s=now_s)
        except RegistryError:
            return Refused(Refusal.NO_SUCH_REQUEST, str(number))
        did = f"approved for {until_s - now_s} s" if approve else "denied"
        message = f"{by_user} {did}, with {by_device}: {decided.service} for {decided.user} (request {number})"
        event = Event(
            APPROVED if approve else DENIED,
            message,
            user=decided.user,
            device=decided.device,
            about=by_user,
            services=((decided.service, until_s - now_s if approve else 0),),
            request=number,
        )
        happened(log, event)
        self._post(now_s)
        return f"{decided.service} for {decided.user}: {did}"[:LONGEST_ABOUT]

    def _post(self, now_s: int) -> None:
        if self._board is not None and self._settings.tells:
            post_requests(self._board, self._requests, now_s)
