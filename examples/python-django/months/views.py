import calendar
from datetime import MAXYEAR, date, timedelta

from django.conf import settings
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.utils import timezone


def this_month(request):
    today = timezone.now().date()
    return month(request, today.year, today.month)


def month(request, year, month):
    if not (1 < year < MAXYEAR and 1 <= month <= 12):
        raise Http404("no such month")
    first = date(year, month, 1)
    return render(
        request,
        "months/month.html",
        {
            "name": settings.NAME,
            "version": settings.VERSION,
            "first": first,
            "before": first - timedelta(days=1),
            "after": first + timedelta(days=31),
            "weeks": calendar.Calendar().monthdayscalendar(year, month),
        },
    )


def health(request):
    return HttpResponse("ok\n", content_type="text/plain")
