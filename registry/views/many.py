from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from registry import dispatcher, many, orders
from registry.filters import matching
from registry.models import Task
from registry.serializers.many import ManyAnswer, ManyRequest, RetryManyRequest
from registry.states import FINAL, LIVE, Move


class Many(APIView):
    """One order for up to 1,000 tasks of one's own; each is met or refused by itself."""

    serializer: type[ManyRequest] = ManyRequest
    states: Collection[str] = ()  # those that a filter can mean

    def verb(self, asked: dict[str, Any]) -> Callable[[Task], None]:
        raise NotImplementedError

    def answer(self, request: Request) -> Response:
        body = self.serializer(data=request.data)
        body.is_valid(raise_exception=True)
        asked = body.validated_data
        rows = Task.objects.all().visible_to(request.user)
        more, missing = False, list[dict[str, str]]()
        if "ids" in asked:
            tasks, missing = many.by_ids(rows, asked["ids"])
        else:
            rows = matching(rows, asked["filter"])
            tasks, more = many.by_filter(rows, self.states)
        done, refused = many.order(tasks, self.verb(asked))
        if done:
            transaction.on_commit(dispatcher.nudge, robust=True)
        return Response({"done": done, "refused": missing + refused, "more": more})


class RetryMany(Many):
    """Begin failed or cancelled tasks again."""

    serializer = RetryManyRequest
    states = Move.RETRY.sources

    def verb(self, asked: dict[str, Any]) -> Callable[[Task], None]:
        over = asked["from"] == "start"
        return lambda task: orders.retry(task, start_over=over)

    @extend_schema(
        operation_id="v1_tasks_retry_many",
        request=RetryManyRequest,
        responses=ManyAnswer,
    )
    def post(self, request: Request) -> Response:
        return self.answer(request)


class PurgeMany(Many):
    """Remove final tasks with their files."""

    states = FINAL

    def verb(self, asked: dict[str, Any]) -> Callable[[Task], None]:
        return orders.purge

    @extend_schema(
        operation_id="v1_tasks_purge_many", request=ManyRequest, responses=ManyAnswer
    )
    def post(self, request: Request) -> Response:
        return self.answer(request)


class CancelMany(Many):
    """Cancel live tasks, or ask their workers to."""

    states = LIVE

    def verb(self, asked: dict[str, Any]) -> Callable[[Task], None]:
        return orders.cancel

    @extend_schema(
        operation_id="v1_tasks_cancel_many", request=ManyRequest, responses=ManyAnswer
    )
    def post(self, request: Request) -> Response:
        return self.answer(request)
