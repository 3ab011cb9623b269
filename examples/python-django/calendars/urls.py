from django.urls import path

from months import views

urlpatterns = [
    path("", views.this_month),
    path("<int:year>/<int:month>", views.month, name="month"),
    path("health", views.health),
]
